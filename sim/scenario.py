# SPDX-License-Identifier: BSD-2-Clause
"""One run: driver and cores on a simulated machine, traffic on its wire, and every frame accounted for at the end."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.drivers.nic import NicDriver
from driver_model.drivers.queue_config import Consumer, QueueConfig
from driver_model.drivers.strategies import strategy as choose_strategy
from driver_model.events import EventLog
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.memory.pages.page import PAGE_SHIFT
from driver_model.memory.pages.zone import Zone
from driver_model.net.collector import Collector
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from driver_model.net.xdp_programs import program as choose_program
from hw.abi.registers import register_map
from hw.abi.rings import LINE_BYTES
from sim.accesses import AccessJoiner
from sim.audit import Accesses, Audit, Operations, RunError
from sim.backends.base import Access, Backend
from sim.config import MachineConfig
from sim.consumers import consumer as make_consumer
from sim.dma_use import dma_use
from sim.host.trace import HardwareEvent, TraceClient
from sim.host.wire_player import PlayerClient
from sim.host.wire_recorder import RecorderClient, SentFrame
from sim.iommu_use import DEVICE_ID, IommuUse
from sim.measurement import Measurement
from sim.platform import SimPlatform
from sim.run import RunConfig
from sim.traffic.capture import Captured
from sim.traffic.flows import mac_value, queue_mac
from sim.traffic.steering import queue_by_address, queue_by_hash

MICROSECOND = 10**6  #: in picoseconds
STEP = 8 * MICROSECOND  #: between two looks at how far a run is, and two batches for the ownership checker
STALLED = 4  #: times as long where everything is held back at random
SETUP_LIMIT = 1_000_000 * MICROSECOND  #: 65,536 buffers join in a third of it
SETTLE_LIMIT = 20_000 * MICROSECOND  #: after the wire's last frame, plus
SETTLE_FRAME = 20 * MICROSECOND  #: for each frame that software may still have to work on
LEAD_CYCLES = 256  #: between the end of the set-up and the first frame


class Scenario:
    """A run on a machine just after reset.

    Parameters
    ----------
    backend : where it is simulated
    machine : the configuration that ``backend`` simulates
    config : the run
    program : XDP program instead of the verdict's own; it may give each frame a verdict of its own
    consumer : takes the frames that pass instead of the run's own, :attr:`consumer`
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
        if config.core_khz:
            self.profile = self.profile.clocked(config.core_khz)
        self.system = System(self.platform, self.profile, config.cores, log=log, cache_seed=config.cache_seed)
        for core in self.system.cores:
            if core.cache is not None:
                core.cache.discards = config.discards
            core.op("stack.residual").ps += config.residual_cycles * 10**9 // self.profile.khz
        self.checker: OwnershipChecker | None = None
        if config.checkers:
            self.checker = OwnershipChecker(machine.cycle_ps, device_log=machine.access_log)
        self.frames = config.traffic.generate(machine.nic.clock_khz)
        spread = queue_by_hash if machine.nic.rss else queue_by_address
        self._queue_of = spread(config.queues)
        self.seen = Collector(self._expected())  # what the driver saw
        self.sent: list[SentFrame] = []
        self.times: list[int] = []  # of each delivery to software, in picoseconds
        self.began: int | None = None  # when software first had a frame, likewise
        self.lengths: list[int] = []
        self.statistics: dict[str, int] = {}
        #: told, before the wire plays its frames, when the first and the last of them will start, in picoseconds
        self.at_begin: list[Callable[[int, int], None]] = []
        self.accesses: Counter[tuple[bool, int, int]] = Counter()  # is a write, place in a line, length
        self._joiner = AccessJoiner(machine.host_width // 8)
        zone = Zone(self.platform.memory_size, config.page_size, pcp_batch=config.pcp_batch)
        self.host = Host(self.system.cores, checker=self.checker, zone=zone, skb_policy=config.skb)
        for slab in self.host.slabs:
            slab.detached_freelists = config.detached_freelists
        strategy = choose_strategy(config.strategy, config.pool)
        buffer_length = strategy.buffer_length_of(self.host.zone.page_size, config.pool)
        self.whole = all(len(frame.data) <= buffer_length for frame in self.frames)  # each in one buffer
        self.iommu = None if machine.iommu is None else IommuUse(self.host, config.iommu, machine.iommu)
        self.dma = dma_use(config.dma, self.host)
        self.passed = Collector(self._expected())  # what passed to the consumer
        socket = {"hold_us": config.hold_us, "rcvbuf": config.rcvbuf, "stream": config.stream}
        self.consumer = make_consumer(config.consumer, self.host, self._done, self.passed, **socket)
        self._tells = consumer is None and (self.consumer.tells or self.consumer.sends)
        self.left = Collector(self._leaving())  # what left again
        queue = QueueConfig(
            strategy=strategy,
            program=self._observed(choose_program(config.verdict) if program is None else program),
            consumer=self.consumer.take if consumer is None else consumer,
            pool=config.pool,
            rx_entries=config.ring,
            tx_entries=config.ring,
            moderation_cycles=config.moderation_cycles,
            moderation_count=config.moderation_count,
            completion_cycles=config.completion_cycles,
            pool_size=config.pool_size,
            pool_max=config.pool_max,
        )
        self.driver = NicDriver(self.host, queue, config.queues)

    def run(self) -> Measurement:
        """Set up, play the traffic, wait until every frame is delivered or dropped, stop, and check that nothing is
        missing, changed or leaked. Raises :class:`RunError`, or what a checker raises."""
        self._process("set-up", self._open)
        empty = self._memory_used
        before = self.system.operations()
        self._joiner.rest()
        self.accesses.clear()
        start = self.backend.cycle + LEAD_CYCLES
        for call in self.at_begin:
            call(start * self.machine.cycle_ps, (start + self.frames[-1].start) * self.machine.cycle_ps)
        self.player.play(frame._replace(start=start + frame.start) for frame in self.frames)
        self._settle((start + self.frames[-1].start) * self.machine.cycle_ps)
        self._count(self._joiner.rest())
        after, accesses = self.system.operations(), dict(self.accesses)
        self.statistics |= {"memory_before": empty, "memory_after": self._memory_used}
        self._process("closing", self._close)
        Audit(self).check_device()
        return self._account(before, after, accesses)

    # What a run with a purpose of its own may judge otherwise

    def _check_iommu(self) -> None:
        """The IOMMU refused nothing."""
        Audit(self).check_iommu()

    def _account(self, before: Operations, after: Operations, accesses: Accesses) -> Measurement:
        """Nothing is missing or left over."""
        return Audit(self).account(before, after, accesses)

    def _check_sent(self) -> None:
        """Every frame that left is one that came."""
        Audit(self).check_sent()

    def _dropped(self) -> dict[str, int]:
        """Frames that were not delivered, by reason."""
        return Audit(self).dropped()

    def captured(self) -> list[Captured]:
        """The frames that left, as a tap on the wire would have captured them: time 0 is that of the reset."""
        return [Captured(frame.first * self.machine.cycle_ps // 1000, frame.data) for frame in self.sent]

    @property
    def _memory_used(self) -> int:
        """Bytes of the kernel's pages that are in use."""
        return self.host.zone.used_pages * self.host.zone.page_size

    # Software

    def _open(self) -> None:
        if self.iommu is not None:
            self.iommu.open()
        if self.dma is not None:
            self.dma.open()
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
        self.consumer.open(self.driver)
        if self.iommu is not None:
            self.iommu.start()
        core.mmio_read(registers.address("status"))  # behind it, every register write has arrived

    def _close(self) -> None:
        if self.iommu is not None:
            self.statistics |= self.iommu.counters()
        self.statistics |= self.driver.counters()
        self.consumer.close()
        self.driver.stop()
        self.statistics |= self.driver.ethtool_statistics() | self.consumer.statistics
        self.host.drain()
        if self.iommu is not None:
            self.iommu.close()
        if self.dma is not None:
            self.statistics |= self.dma.counters()
            self.dma.close()

    def _observed(self, program: XdpProgram) -> XdpProgram:
        """A program that does what another does, and notes each frame as it passes."""
        times, lengths, read, check, run = self.times, self.lengths, self.system.peek, self.seen.check, program.run
        delivered = (XdpAction.DROP,) if self._tells else (XdpAction.DROP, XdpAction.PASS)

        def header_of(xdp: XdpBuff) -> tuple[int, int]:
            apart = None if xdp.metadata is None else xdp.metadata.header
            return (xdp.data, 0) if apart is None else apart

        def note(xdp: XdpBuff) -> XdpAction:
            time, length = xdp.core.time, header_of(xdp)[1] + xdp.data_end - xdp.data
            if self.began is None or time < self.began:
                self.began = time
            action = run(xdp)
            if action in delivered:
                times.append(time)
                lengths.append(length)
            return action

        def check_and_note(xdp: XdpBuff) -> XdpAction:
            check(xdp.queue, read(*header_of(xdp)) + read(xdp.data, xdp.data_end - xdp.data))
            return note(xdp)

        return replace(program, run=check_and_note if self.config.checkers and self.whole else note)

    def _done(self, time: int, length: int) -> None:
        """The consumer has dealt with a frame."""
        self.times.append(time)
        self.lengths.append(length)

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
        last: tuple[int, int, bool] | None = None
        while True:
            self.platform.run(self.platform.now + step)
            self._observe()
            idle = not self.consumer.busy and not any(
                (queue.tx.running and queue.tx.outstanding) or queue.busy for queue in self.driver.queues
            )
            # Of a queue that was not armed before, an interrupt may be about to come.
            state = (sum(queue.statistics.rx_completed for queue in self.driver.queues), len(self.sent), idle)
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

    def _expected(self) -> list[list[bytes]]:
        """The frames sent to each queue: by RSS where the NIC has it, else by destination address."""
        expected: list[list[bytes]] = [[] for _ in range(self.config.queues)]
        for frame in self.frames:
            expected[self._queue_of(frame.data)].append(frame.data)
        return expected

    def _leaving(self) -> list[list[bytes]]:
        """What of these leaves again, if it does: as it came, or as the consumer changes it."""
        arriving = self._expected()
        self.leaves_by: Callable[[bytes], int] = self._queue_of
        if not (self._tells and self.consumer.sends):
            return arriving
        leaving = [[sent for each in frames if (sent := self.consumer.expected(each))] for frames in arriving]
        queues = {sent: queue for queue, frames in enumerate(leaving) for sent in frames}
        self.leaves_by = lambda frame: queues.get(frame, 0)
        return leaving
