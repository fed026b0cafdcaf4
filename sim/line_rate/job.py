# SPDX-License-Identifier: BSD-2-Clause
"""Runs at full rate: the job that makes them in a simulator."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from hw.abi.iommu_registers import iommu_registers
from hw.abi.registers import register_map
from sim.backends.base import Backend
from sim.config import IOMMU_REGISTERS, MachineConfig
from sim.host.mailbox import Interrupt, MailboxClient, RegisterRead
from sim.host.stream_account import AccountClient, StreamCount
from sim.host.wire_player import AHEAD, PlayerClient
from sim.host.wire_recorder import RecorderClient
from sim.line_rate.frames import FrameError, NumberedFrames
from sim.line_rate.pools import Forwarder, PoolReceiver
from sim.line_rate.queues import Receiver, Sender
from sim.line_rate.run import (
    CARRIED,
    FORWARD,
    LEVELS,
    PHYSICAL,
    PREFETCHED,
    RX_BUFFER,
    UNTRANSLATED,
    LineMeasurement,
    LineRun,
)
from sim.load_tables import DEVICE_ID, DIRECTORY, write_tables
from sim.streams import record_names
from sim.traffic.flows import mac_value, queue_mac
from sim.traffic.pacing import LineRate

MEMORY = "memory"
MEANWHILE = 500
VIRTUAL = 3 << 30  #: where the device sees what lies at ``PHYSICAL``, with an IOMMU
PERIOD_FRAMES = 128  #: at line rate, in the cycles between two looks at the rings, at most
LIMIT = 200_000  #: cycles that a register access may take, and a run beside what its frames need
SLOWEST = 8  #: times as long as at line rate may a run take
QUIET = 8  #: looks at the rings without a frame, after the last was due, until none is expected any more
BUSY_POLLS = 1000


def run_lines(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` for progress and a ``run``, the fields of a :class:`LineRun`. Returns ``cases``, the
    measurements in the same order, and ``profiles``: none, as software costs nothing.
    """
    measured = []
    for number, case in enumerate(cases, 1):
        run = LineRun(**case["run"])
        run.check(machine)
        if number > 1:
            backend.reset()
        measurement = LineRateRun(backend, machine, run).measure()
        measured.append(measurement.as_json())
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    return {"cases": measured, "profiles": {}}


class LineRateRun:
    """A run on a machine just after reset."""

    def __init__(self, backend: Backend, machine: MachineConfig, run: LineRun):
        self._backend = backend
        self._machine = machine
        self._run = run
        self._memory: np.ndarray = backend.storage[MEMORY]
        self._mailbox = MailboxClient(backend)
        self._registers = register_map(machine.nic.queues, pools=machine.nic.pools)
        self._line = LineRate(machine.mac_mbps * 1_000_000, machine.nic.clock_khz)
        self._frames = NumberedFrames(run.length, flows=run.queues, queues=run.queues, seed=run.seed)
        self._player, self._recorder = PlayerClient(backend), RecorderClient(backend)
        self._streams = AccountClient(backend, record_names(machine)) if machine.nic.probes else None
        self._offset = VIRTUAL - PHYSICAL if run.page else 0
        receiver: Any = partial(PoolReceiver, read=self._read) if run.recycle else Receiver
        self._receivers = [self._make(receiver, queue, 0) for queue in range(run.queues)]
        self._senders = [self._sender(queue) for queue in range(run.queues)]
        self._sent = 0
        self._next = np.arange(run.queues)  # number of the frame that each queue sends next
        self._begin = 0

    def _sender(self, queue: int) -> Any:
        """Of a queue: what sends what was received, or frames of its own."""
        if self._run.direction != FORWARD:
            return self._make(Sender, queue, 1)
        return self._make(partial(Forwarder, receiver=self._receivers[queue]), queue, 1, buffers=0)

    def _make(self, kind: Any, queue: int, direction: int, *, buffers: int | None = None) -> Any:
        run = self._run
        return kind(
            self._memory,
            self._mailbox,
            self._registers,
            queue,
            run.rings(queue, direction),
            run.buffers(queue, direction if buffers is None else buffers),
            self._frames,
            self._offset,
            entries=run.ring,
        )

    def measure(self) -> LineMeasurement:
        """Set up, warm up, measure, and look whether every frame is accounted for."""
        run = self._run
        receives, sends = run.direction != "tx", run.direction != "rx"
        self._set_up(receives, sends)
        # A quarter of the buffers may be waiting to be looked at.
        pieces = -(-run.length // RX_BUFFER)
        frames = min(PERIOD_FRAMES, run.ring * run.queues // (4 * pieces))
        period = max(64, int(frames * self._line.frame_cycles(run.length)))
        self._begin = self._backend.cycle + AHEAD + period
        marks: list[tuple[int, int, int]] = []
        streams: Mapping[str, StreamCount] = {}
        for goal in (run.warm, run.warm + run.frames):
            limit = self._backend.cycle + LIMIT + int(SLOWEST * goal * self._line.frame_cycles(run.length))
            while (receives and self._received < goal) or (sends and self._sent < goal):
                if self._backend.cycle > limit:
                    raise FrameError(
                        f"After {self._backend.cycle} cycles {self._received} frames were received and {self._sent} "
                        f"sent, not {goal}: {run!r}"
                    )
                self._step(self._backend.cycle + period, receives, sends)
            marks.append((self._backend.cycle, self._received, self._sent))
            if self._streams is not None:
                streams = self._streams.counts()
                self._streams.begin()
        (start, received, sent), (end, all_received, all_sent) = marks
        dropped = self._settle(period, receives, sends)
        return LineMeasurement(end - start, all_received - received, all_sent - sent, dropped, streams)

    @property
    def _received(self) -> int:
        return sum(receiver.received for receiver in self._receivers)

    def _step(self, until: int, receives: bool, sends: bool, *, more: bool = True) -> None:
        """Let the machine run, and look at everything; give it more frames or not."""
        if receives and more:
            self._offer()
        while self._backend.cycle < until:
            self._backend.advance(until)
            self._backend.hits()
        if receives:
            for receiver in self._receivers:
                receiver.poll()
        if sends:
            for sender in self._senders:
                sender.poll(more=more)
            self._record()

    def _offer(self) -> None:
        """As many frames as the wire's player has room for."""
        numbers = self._player.queued + np.arange(self._player.room)
        spacing = self._line.frame_cycles(self._run.length)
        starts = self._begin - (-numbers * spacing.numerator) // spacing.denominator
        if len(numbers):
            self._player.put(starts, self._frames.make(numbers))

    def _record(self) -> None:
        """Frames that left must be the next of their queue."""
        _, rows = self._recorder.take(self._run.length)
        numbers = self._frames.numbers(rows)
        queues = self._run.queues
        for queue in range(queues):
            mine = numbers[numbers % queues == queue]
            steps = np.diff(np.concatenate(([self._next[queue] - queues], mine)))
            # What was dropped is not forwarded either.
            wrong = steps <= 0 if self._run.direction == FORWARD else steps != queues
            if wrong.any():
                raise FrameError(f"Queue {queue} sent frame {mine[np.argmax(wrong)]} out of order")
            if len(mine):
                self._next[queue] = mine[-1] + queues
        self._sent += len(numbers)

    def _set_up(self, receives: bool, sends: bool) -> None:
        run, mailbox, port = self._run, self._mailbox, self._registers.port
        if run.page:
            self._translate()
        mailbox.set_carrier(True)
        for name, fields in (
            ("timeouts", {"starvation": 1024, "completion": run.wait}),
            ("device", {"device_id": DEVICE_ID}),
            ("control", {"rx_enable": int(receives), "tx_enable": int(sends)}),
        ):
            mailbox.write_register(port[name].offset, port[name].pack(**fields))
        if receives:
            for queue, receiver in enumerate(self._receivers):
                receiver.start(mac_value(queue_mac(queue)))
        if sends:
            for sender in self._senders:
                sender.start()
                if run.direction != FORWARD:
                    sender.poll()
        if run.translation != UNTRANSLATED:
            how = {"carry": int(run.translation == CARRIED), "prefetch": int(run.translation == PREFETCHED)}
            mailbox.write_register(port["ats_control"].offset, port["ats_control"].pack(**how))
        if run.stalls:
            mailbox.set_stalls(run.stalls, run.seed)
        self._read(port["status"].offset)  # behind every write

    def _translate(self) -> None:
        """Map all rings and buffers for the NIC."""
        run = self._run
        root = write_tables(
            self._memory,
            at=run.end,
            virtual=VIRTUAL,
            physical=PHYSICAL,
            window=run.end - PHYSICAL,
            page=run.page,
            levels=LEVELS,
            ats=run.translation == CARRIED,
        )
        ddtp = iommu_registers()["ddtp"]
        self._mailbox.write_register(IOMMU_REGISTERS + ddtp.offset, ddtp.pack(iommu_mode=DIRECTORY, ppn=root))
        for _ in range(BUSY_POLLS):
            if not ddtp.get(self._read(IOMMU_REGISTERS + ddtp.offset), "busy"):
                return
        raise FrameError(f"Register ddtp of the IOMMU was still busy after {BUSY_POLLS} reads")

    def _read(self, offset: int) -> int:
        """A register's value."""
        return self._read_all([offset])[0]

    def _read_all(self, offsets: Sequence[int]) -> list[int]:
        """Values of registers, read one right after the other."""
        for offset in offsets:
            self._mailbox.read_register(offset)
        limit = self._backend.cycle + LIMIT
        values: list[int] = []
        while True:
            for event in self._mailbox.events():
                if isinstance(event, RegisterRead) and not event.error:
                    values.append(event.value)
                elif not isinstance(event, Interrupt):
                    raise FrameError(f"Instead of register {offsets[len(values)]:#x} there came {event!r}")
            if len(values) == len(offsets):
                return values
            if self._backend.cycle >= limit:
                raise FrameError(f"Waited {LIMIT} cycles for register {offsets[len(values)]:#x}")
            self._backend.advance(min(limit, self._backend.cycle + MEANWHILE))
            self._backend.hits()
            self._meanwhile()

    def _meanwhile(self) -> None:
        """What is to be done every :data:`MEANWHILE` cycles while registers are read."""

    def _settle(self, period: int, receives: bool, sends: bool) -> dict[str, int]:
        """Wait for all that is under way; frames that were dropped, by reason. Nothing else may be missing."""
        frames = self._player.queued + self._posted(sends)
        limit = self._backend.cycle + LIMIT + int(SLOWEST * frames * self._line.frame_cycles(self._run.length))
        last, quiet = self._received, 0
        looks = QUIET + self._run.wait // period  # the last completion may wait for others
        while self._posted(sends) != self._sent or quiet < looks:
            self._step(self._backend.cycle + period, receives, sends, more=False)
            over = self._backend.cycle > self._begin + self._player.queued * self._line.frame_cycles(self._run.length)
            quiet = quiet + 1 if over and self._received == last else 0
            last = self._received
            if self._backend.cycle > limit:
                raise FrameError(f"Of {self._posted(sends)} frames that were posted {self._sent} left: {self._run!r}")
        # Reading counters takes its time, in which nobody looks at the rings: so not before all is still.
        dropped = self._drops() if receives else {}
        missing = self._player.queued - self._received - sum(dropped.values())
        if missing:
            raise FrameError(
                f"{missing} of {self._player.queued} frames never came, and were not dropped: {self._run!r}"
            )
        return dropped

    def _posted(self, sends: bool) -> int:
        """Frames that were to be sent."""
        return sum(sender.posted for sender in self._senders) if sends else 0

    def _drops(self) -> dict[str, int]:
        """The NIC's counters of dropped frames."""
        port = self._registers.port
        self._mailbox.write_register(port["control"].offset, port["control"].pack(rx_enable=1, tx_enable=1, snapshot=1))
        dropped: Counter[str] = Counter()
        for name, register in port.items():
            if name.startswith("rx.drop_"):
                dropped[name.removeprefix("rx.drop_")] = self._read(register.offset)
        for queue in range(self._run.queues):
            dropped.update(self._queue_drops(queue))
        return {reason: count for reason, count in dropped.items() if count}

    def _queue_drops(self, queue: int) -> dict[str, int]:
        """A queue's counters of dropped frames, as of the last snapshot."""
        return {
            name.removeprefix("counters.drop_"): self._read(self._registers.address(name, queue))
            for name in self._registers.queue
            if name.startswith("counters.drop_")
        }
