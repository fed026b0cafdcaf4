# SPDX-License-Identifier: BSD-2-Clause
"""One run: driver and cores on a simulated machine, traffic on its wire, and every frame accounted for at the end."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.drivers.nic import NicDriver
from driver_model.drivers.queue_config import Consumer, QueueConfig
from driver_model.drivers.strategies import STRATEGIES
from driver_model.events import EventLog
from driver_model.memory.ownership import OwnershipChecker
from driver_model.memory.page import PAGE_SHIFT
from driver_model.net.collector import Collector
from driver_model.net.xdp import PROGRAMS, XdpAction, XdpBuff, XdpProgram
from hw.abi.registers import register_map
from hw.abi.rings import LINE_BYTES, DropReason
from sim.accesses import AccessJoiner
from sim.backends.base import Access, Backend
from sim.config import MachineConfig
from sim.host.trace import HardwareEvent, TraceClient
from sim.host.wire_player import PlayerClient
from sim.host.wire_recorder import RecorderClient, SentFrame
from sim.iommu_use import DEVICE_ID, IommuUse
from sim.platform import SimPlatform
from sim.run import Measurement, RunConfig
from sim.traffic.capture import Captured
from sim.traffic.flows import mac_value, queue_mac
from sim.traffic.steering import queue_by_address, queue_by_hash

MICROSECOND = 10**6  #: in picoseconds
STEP = 8 * MICROSECOND  #: between two looks at how far a run is, and two batches for the ownership checker
STALLED = 4  #: times as long where everything is held back at random
SETUP_LIMIT = 1_000_000 * MICROSECOND  #: 65,536 buffers join in a third of it
SETTLE_LIMIT = 20_000 * MICROSECOND  #: after the wire's last frame, plus
SETTLE_FRAME = 20 * MICROSECOND  #: for each frame that software may still have to work on
SHOWN_FAULTS = 3
LEAD_CYCLES = 256  #: between the end of the set-up and the first frame


Operations = dict[str, tuple[int, int]]  #: count and picoseconds by name
Accesses = dict[tuple[bool, int, int], int]  #: count by kind: a write or not, place in a line, length


class RunError(Exception):
    """A run ended with frames or memory that nobody accounts for, or did not end."""


class Scenario:
    """A run on a machine just after reset.

    Parameters
    ----------
    backend : where it is simulated
    machine : the configuration that ``backend`` simulates
    config : the run
    program : XDP program instead of the verdict's own; it may give each frame a verdict of its own
    consumer : takes the frames that pass instead of :attr:`passed`, the collector that checks them
    log : event log of the software; None leaves it off. With one, on a machine whose frames have serials,
        :attr:`happened` keeps the hardware's side
    """

    def __init__(
        self,
        backend: Backend,
        machine: MachineConfig,
        config: RunConfig,
        *,
        program: XdpProgram | None = None,
        consumer: Consumer | None = None,
        log: EventLog | None = None,
    ) -> None:
        config.check(machine)
        self.backend = backend
        self.machine = machine
        self.config = config
        registers = register_map(machine.nic.queues, pools=machine.nic.pools).size
        self.platform = SimPlatform(
            backend, machine.cycle_ps, registers, machine.iommu_registers, machine.intruder_registers
        )
        self.player = PlayerClient(backend)
        self.recorder = RecorderClient(backend)
        self.platform.kernel.adopt(self.player.token, self.player.refill)
        for token in self.recorder.tokens:
            self.platform.kernel.adopt(token, self._take_sent)
        self.happened: list[HardwareEvent] = []
        self.trace: TraceClient | None = None
        if log is not None and machine.nic.serial_width:
            self.trace = TraceClient(backend)
            for token in self.trace.tokens:
                self.platform.kernel.adopt(token, self._take_trace)
        self.profile = Profile.load(config.profile)
        self.system = System(self.platform, self.profile, config.cores, log=log)
        self.checker: OwnershipChecker | None = None
        if config.checkers:
            self.checker = OwnershipChecker(machine.cycle_ps, device_log=machine.access_log)
        self.frames = config.traffic.generate(machine.nic.clock_khz)
        spread = queue_by_hash if machine.nic.rss else queue_by_address
        self._queue_of = spread(config.queues)
        self.seen = Collector(self._expected())  # what the driver saw
        self.left = Collector(self._expected())  # what left again
        self.sent: list[SentFrame] = []
        self.times: list[int] = []  # of each delivery to software, in picoseconds
        self.began: int | None = None  # when software first had a frame, likewise
        self.lengths: list[int] = []
        self.statistics: dict[str, int] = {}
        self.accesses: Counter[tuple[bool, int, int]] = Counter()  # is a write, place in a line, length
        self._joiner = AccessJoiner(machine.host_width // 8)
        self.host = Host(self.system.cores, checker=self.checker)
        buffer_length = STRATEGIES[config.strategy].buffer_length_of(self.host.zone.page_size)
        self.whole = all(len(frame.data) <= buffer_length for frame in self.frames)  # each in one buffer
        self.iommu = None if machine.iommu is None else IommuUse(self.host, config.iommu, machine.iommu)
        self.passed = Collector(self._expected())  # what passed to the stack
        queue = QueueConfig(
            strategy=STRATEGIES[config.strategy],
            program=self._observed(PROGRAMS[config.verdict] if program is None else program),
            consumer=self.passed if consumer is None else consumer,
            rx_entries=config.ring,
            tx_entries=config.ring,
            moderation_cycles=config.moderation_cycles,
            moderation_count=config.moderation_count,
            completion_cycles=config.completion_cycles,
        )
        self.driver = NicDriver(self.host, queue, config.queues)

    def run(self) -> Measurement:
        """Set up, play the traffic, wait until every frame is delivered or dropped, stop, and check that nothing is
        missing, changed or leaked. Raises :class:`RunError`, or what a checker raises."""
        self._process("set-up", self._open)
        before = self.system.operations()
        self._joiner.rest()
        self.accesses.clear()
        start = self.backend.cycle + LEAD_CYCLES
        self.player.play(frame._replace(start=start + frame.start) for frame in self.frames)
        self._settle((start + self.frames[-1].start) * self.machine.cycle_ps)
        self._count(self._joiner.rest())
        after, accesses = self.system.operations(), dict(self.accesses)
        self._process("closing", self._close)
        self._check_device()
        return self._account(before, after, accesses)

    def captured(self) -> list[Captured]:
        """The frames that left, as a tap on the wire would have captured them: time 0 is that of the reset."""
        return [Captured(frame.first * self.machine.cycle_ps // 1000, frame.data) for frame in self.sent]

    # Software

    def _open(self) -> None:
        if self.iommu is not None:
            self.iommu.open()
        self.driver.probe()
        core, registers = self.driver.core, self.driver.registers
        if not self.machine.nic.rss:
            for queue in range(self.config.queues):
                claim = registers.queue["mac_address"].pack(address=mac_value(queue_mac(queue)), enable=1)
                core.mmio_write(registers.address("mac_address", queue), claim)
        if self.iommu is not None:
            core.mmio_write(registers.address("device"), registers.port["device"].pack(device_id=DEVICE_ID))
        self.platform.set_carrier(True)
        self.driver.open()
        if self.iommu is not None:
            self.iommu.start()
        core.mmio_read(registers.address("status"))  # behind it, every register write has arrived

    def _close(self) -> None:
        if self.iommu is not None:
            self.statistics |= self.iommu.counters()
        self.statistics |= self.driver.counters()
        self.driver.stop()
        self.statistics |= self.driver.ethtool_statistics()
        if self.iommu is not None:
            self.iommu.close()

    def _observed(self, program: XdpProgram) -> XdpProgram:
        """A program that does what another does, and notes each frame as it passes."""
        times, lengths, read, check, run = self.times, self.lengths, self.platform.read, self.seen.check, program.run
        drop, passes = XdpAction.DROP, XdpAction.PASS

        def header_of(xdp: XdpBuff) -> tuple[int, int]:
            apart = None if xdp.metadata is None else xdp.metadata.header
            return (xdp.data, 0) if apart is None else apart

        def note(xdp: XdpBuff) -> XdpAction:
            time, length = xdp.core.time, header_of(xdp)[1] + xdp.data_end - xdp.data
            if self.began is None or time < self.began:
                self.began = time
            action = run(xdp)
            if action is drop or action is passes:
                times.append(time)
                lengths.append(length)
            return action

        def check_and_note(xdp: XdpBuff) -> XdpAction:
            check(xdp.queue, read(*header_of(xdp)) + read(xdp.data, xdp.data_end - xdp.data))
            return note(xdp)

        return replace(program, run=check_and_note if self.config.checkers and self.whole else note)

    def _process(self, name: str, function: Callable[[], None]) -> None:
        """Run a process on the first core to its end."""

        def body() -> None:
            function()
            self.platform.stop()

        self.system.cores[0].spawn(name, body)
        if not self.platform.run(self.platform.now + SETUP_LIMIT):
            raise RunError(f"Waited {SETUP_LIMIT // MICROSECOND} us for the driver's {name} to end")
        self._observe()

    # Progress

    def _settle(self, end: int) -> None:
        """Run until the wire has played all its frames and nothing has moved for a while."""
        limit = end + SETTLE_LIMIT + len(self.frames) * SETTLE_FRAME
        config, cycle = self.config, self.machine.cycle_ps
        step = max(STEP * (STALLED if self.machine.stalls else 1), 2 * config.completion_cycles * cycle)
        step += config.moderation_cycles * cycle
        last: tuple[int, int] | None = None
        while True:
            self.platform.run(self.platform.now + step)
            self._observe()
            state = (sum(queue.statistics.rx_completed for queue in self.driver.queues), len(self.sent))
            idle = not any(
                (queue.tx.running and queue.tx.outstanding) or queue.napi.scheduled for queue in self.driver.queues
            )
            if self.player.exhausted and self.platform.now > end + step and idle and state == last:
                return
            if self.platform.now > limit:
                raise RunError(
                    f"Waited until {self.platform.now // MICROSECOND} us for {len(self.frames)} frames to be delivered "
                    f"or dropped: {state[0]} received, {state[1]} sent, idle: {idle}"
                )
            last = state

    def _observe(self) -> None:
        """Give the recorder's frames and the device's accesses to those who check them."""
        self._take_sent()
        self._take_trace()
        accesses = self.backend.accesses()
        self._count(self._joiner.add(accesses))
        if self.checker is not None:
            # A read is logged in whole words; only what lies inside of them is sure to have been asked for.
            slack = self.machine.host_width // 8 - 1
            self.checker.device_accesses(
                self.backend.cycle,
                [
                    (cycle, address, length, True)
                    if is_write
                    else (cycle, address + slack, max(0, length - 2 * slack), False)
                    for cycle, address, length, is_write in accesses
                ],
            )

    def _count(self, accesses: Iterable[Access]) -> None:
        """Those of an IOMMU to its tables are not the device's."""
        tables = set() if self.checker is None else self.checker.iommu_frames
        self.accesses.update(
            [
                (is_write, address % LINE_BYTES, length)
                for _, address, length, is_write in accesses
                if address >> PAGE_SHIFT not in tables
            ]
        )

    def _take_sent(self) -> None:
        self.sent += self.recorder.recorded()

    def _take_trace(self) -> None:
        if self.trace is not None:
            self.happened += self.trace.recorded()
            if self.trace.lost:
                raise RunError(f"{self.trace.lost} records of the hardware trace were overwritten unread")

    # Result

    def _expected(self) -> list[list[bytes]]:
        """The frames sent to each queue: by RSS where the NIC has it, else by destination address."""
        expected: list[list[bytes]] = [[] for _ in range(self.config.queues)]
        for frame in self.frames:
            expected[self._queue_of(frame.data)].append(frame.data)
        return expected

    def _check_device(self) -> None:
        """Neither the device nor the IOMMU reported an error, or was asked for what it must refuse."""
        self._check_iommu()
        faults = [f"The device reported an error: {fault}" for fault in self.driver.faults]
        if problems := faults + self.driver.warnings:
            raise RunError("; ".join(problems))
        if self.platform.refused:
            names = Counter(self.driver.registers.describe(write.offset) for write in self.platform.refused)
            refused = ", ".join(f"{count} to {name}" for name, count in names.items())
            raise RunError(f"The device refused register writes: {refused}")
        if self.platform.posted_errors:
            raise RunError(
                f"Memory refused {self.platform.posted_errors} writes of the device: they were outside of "
                f"0..{self.machine.memory_size - 1:#x}"
            )

    def _check_iommu(self) -> None:
        """The IOMMU refused nothing."""
        if self.iommu is not None and self.iommu.faults:
            count, first = self.iommu.driver.faults.count, "; ".join(map(str, self.iommu.faults[:SHOWN_FAULTS]))
            raise RunError(f"The IOMMU refused {count} accesses, the first of them: {first}")

    def _account(self, before: Operations, after: Operations, accesses: Accesses) -> Measurement:
        """Check that nothing is missing or left over, and sum up."""
        self._check_sent()
        times = sorted(self.times + [frame.last * self.machine.cycle_ps for frame in self.sent])
        if self.whole or not self.times:
            lengths = Counter(self.lengths + [len(frame.data) for frame in self.sent])
        else:
            lengths = Counter(len(frame.data) for frame in self.frames)
        offered, delivered, dropped = len(self.frames), len(times), self._dropped()
        if delivered + sum(dropped.values()) != offered:
            raise RunError(f"{offered} frames were sent, {delivered} delivered, and dropped by reason: {dropped}")
        if self.statistics["rx_frames"] != offered:
            raise RunError(f"{offered} frames were sent, and the device counted {self.statistics['rx_frames']}")
        for queue in range(self.config.queues):
            ours = self.driver.queues[queue].statistics.rx_completed
            its = self.statistics[f"nic_queue{queue}_rx_packets"]
            if ours != its:
                raise RunError(f"Of queue {queue}, the driver received {ours} frames and the device delivered {its}")
        if not delivered:
            raise RunError(f"None of {offered} frames was delivered; dropped by reason: {dropped}")
        if self.player.late:
            raise RunError(f"{self.player.late} frames came too late for their start on the wire")
        if self.checker is not None:
            self.checker.finish()
        if self.host.pages_in_use or self.driver.in_flight:
            raise RunError(
                f"After the driver stopped, {self.host.pages_in_use} allocations and {self.driver.in_flight} pages in "
                f"flight remain"
            )
        return Measurement(
            clock_khz=self.machine.nic.clock_khz,
            core_khz=self.profile.khz,
            offered=offered,
            delivered=delivered,
            dropped=dropped,
            lengths=lengths,
            cycles=self._cycles(times),
            operations={
                name: (count - before.get(name, (0, 0))[0], ps - before.get(name, (0, 0))[1])
                for name, (count, ps) in after.items()
                if count > before.get(name, (0, 0))[0]
            },
            statistics=self.statistics,
            accesses=accesses,
        )

    def _dropped(self) -> dict[str, int]:
        """Frames that were not delivered, by those reasons that happened: the hardware's, which alone knows of all
        that it refused to send, then the software's."""
        dropped: Counter[str] = Counter()
        for reason in map(str.lower, DropReason.__members__):
            places = ("rx", *(f"nic_queue{queue}" for queue in range(self.machine.nic.queues)))
            dropped[reason] = sum(self.statistics.get(f"{place}_drop_{reason}", 0) for place in places)
        dropped["tx_error"] = self.statistics["tx_errors"]
        for queue in self.driver.queues:
            counts = queue.statistics
            dropped["rx_error"] += counts.rx_errors
            dropped["xdp_aborted"] += counts.rx_xdp_aborted
            dropped["xdp_frags"] += counts.rx_xdp_frags
            dropped["tx_ring_full"] += counts.rx_xdp_tx_full
            dropped["tx_aborted"] += counts.tx_aborted
        return {reason: count for reason, count in dropped.items() if count}

    def _check_sent(self) -> None:
        """Every frame that left is one that came, unchanged, whole and in its queue's order."""
        for frame in self.sent:
            if frame.error or frame.underrun:
                raise RunError(f"A frame left damaged in cycle {frame.last}: {frame!r}")
            self.left.check(self._queue_of(frame.data), frame.data)

    def _cycles(self, times: list[int]) -> Fraction:
        """Hardware cycles for the deliveries at these times: what they took from when software first had a frame, or
        what the wire took if longer.

        Frames leave a whole poll at a time: from the first that left on, a burst would count whose work was done
        before, and of few frames that is most. So the time of ``tx`` has the first frame's way out in it.
        """
        traffic = self.config.traffic
        line = traffic.line(self.machine.nic.clock_khz)
        if traffic.timing == "capture":
            first, last = self.frames[0], self.frames[-1]
            wire = last.start - first.start + line.frame_cycles(len(last.data))
        else:
            wire = sum((line.frame_cycles(len(frame.data)) for frame in self.frames), Fraction(0)) / line.load
        if len(times) < 2:
            return wire
        if self.began is not None and self.began < times[0]:
            return max(wire, Fraction(times[-1] - self.began, self.machine.cycle_ps))
        return max(wire, Fraction(times[-1] - times[0], self.machine.cycle_ps) * len(times) / (len(times) - 1))
