# SPDX-License-Identifier: BSD-2-Clause
"""The recorder of the NIC's trace points: what happened to which frame, and at which edge."""

from typing import Any, NamedTuple

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.config import NicConfig
from hw.nic.interfaces import TracePoint
from hw.nic.nic import Trace
from sim.backends.base import Backend
from sim.host.storage import Storage

TRACE = "trace"
RECORD_BYTES = 64
SLOTS = 4096
CYCLE_BITS = 40
NUMBER_BITS = 24
POINT_BITS = 56
POINTS = ("arrived", *Trace(NicConfig(serial_width=1)).members)
SERIAL_BITS, QUEUE_BITS = 32, 4

#: What one trace point tells, in whole bytes.
PointSlot = data.StructLayout({"strobe": 1, "unused": 3, "queue": QUEUE_BITS, "detail": 16, "serial": SERIAL_BITS})
#: All trace points of one edge. ``number`` counts records from 1, so that an overwritten one is noticed.
RecordSlot = data.StructLayout(
    {"cycle": CYCLE_BITS, "number": NUMBER_BITS, "points": data.ArrayLayout(PointSlot, len(POINTS))}
)


class TraceRecorder(wiring.Component):
    """Writes what trace points tell to storage ``trace``, a ring.

    All that happened at one edge is one record, so there is no queue that could overflow: each edge at which something
    happened takes one write. A ring that software does not empty in time is overwritten, which :class:`TraceClient`
    counts.

    Ports
    -----
    cycle : In 64
        Edges taken since reset.
    arrived : In TracePoint(config)
        The NIC took a frame's first beat from the wire.
    points : In Trace(config)
        Of the NIC. All trace points are high in the cycle after the edge at which it happened.

    Parameters
    ----------
    config : of the NIC; its ``serial_width`` is 1..32
    slots : records that the ring holds, a power of two in 4..65536
    """

    def __init__(self, config: NicConfig, slots: int = SLOTS):
        if not 1 <= config.serial_width <= SERIAL_BITS:
            raise ValueError(f"serial_width must be in 1..{SERIAL_BITS} to be traced, not {config.serial_width!r}")
        if not isinstance(slots, int) or not 4 <= slots <= 65536 or slots & (slots - 1):
            raise ValueError(f"slots must be a power of two in 4..65536, not {slots!r}")
        self.slots = slots
        super().__init__({"cycle": In(64), "arrived": In(TracePoint(config)), "points": In(Trace(config))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.storage = storage = Storage(TRACE, self.slots * RECORD_BYTES, 8 * RECORD_BYTES)
        record = Signal(RecordSlot)
        number = Signal(NUMBER_BITS, init=1)
        points = [self.arrived, *(getattr(self.points, name) for name in POINTS[1:])]
        for slot, point in zip(record.points, points, strict=True):
            m.d.comb += [
                slot.strobe.eq(point.strobe),
                slot.queue.eq(point.queue),
                slot.detail.eq(point.detail),
                slot.serial.eq(point.serial),
            ]
        m.d.comb += [
            record.cycle.eq(self.cycle),
            record.number.eq(number),
            storage.port.write_enable.eq(sum(point.strobe for point in points) != 0),
            storage.port.write_address.eq((number - 1) % self.slots * RECORD_BYTES),
            storage.port.write_data.eq(record),
            storage.port.write_strobe.eq(-1),
        ]
        with m.If(storage.port.write_enable):
            m.d.sync += number.eq(number + 1)
        return m


class HardwareEvent(NamedTuple):
    """Something that happened to a frame in the NIC.

    ``point`` is ``arrived`` (first beat taken from the wire) or a trace point of :class:`hw.nic.nic.Nic`:
    ``rx_accepted``, ``rx_refused``, ``rx_taken``, ``rx_dropped``, ``rx_completed``, ``tx_gathered``, ``tx_sent``.
    ``serial`` counts the frames of the direction. ``queue`` and ``detail`` (a buffer id, or a drop reason) are 0 where
    it has none.
    """

    cycle: int  #: edge at which it happened
    point: str
    serial: int
    queue: int
    detail: int


class TraceClient:
    """Software's side of a :class:`TraceRecorder`; made after each reset.

    Attributes
    ----------
    tokens : watches that are hit each time a quarter of the ring is full: call :meth:`recorded` before all of it is
    lost : records that were overwritten before they were taken
    """

    def __init__(self, backend: Backend):
        self._storage = backend.storage[TRACE].data
        self._slots = len(self._storage) // RECORD_BYTES
        self._taken = 0
        self.lost = 0
        self.tokens = tuple(
            backend.watch(TRACE, slot * RECORD_BYTES, (slot + 1) * RECORD_BYTES)
            for slot in range(self._slots // 4 - 1, self._slots, self._slots // 4)
        )

    def recorded(self) -> list[HardwareEvent]:
        """What happened since the last call, in order; of one edge, in the order of a frame's way."""
        events: list[HardwareEvent] = []
        while True:
            start = self._taken % self._slots * RECORD_BYTES
            record = int.from_bytes(self._storage[start : start + RECORD_BYTES], "little")
            number = record >> CYCLE_BITS & ((1 << NUMBER_BITS) - 1)
            ahead = (number - self._taken - 1) % (1 << NUMBER_BITS)
            if ahead >> NUMBER_BITS - 1:
                return events  # a record of the lap before, or none
            if ahead:
                overwritten = ahead - self._slots + 1
                self.lost += overwritten
                self._taken += overwritten
                continue
            events += _events(record)
            self._taken += 1


def _events(record: int) -> list[HardwareEvent]:
    cycle = record & ((1 << CYCLE_BITS) - 1)
    events = []
    record >>= CYCLE_BITS + NUMBER_BITS
    for point in POINTS:
        if record & 1:
            events.append(
                HardwareEvent(cycle, point, record >> 24 & 0xFFFF_FFFF, record >> 4 & 0xF, record >> 8 & 0xFFFF)
            )
        record >>= POINT_BITS
    return events
