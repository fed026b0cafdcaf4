# SPDX-License-Identifier: BSD-2-Clause
"""The wire's transmit side: a MAC that takes frames at its rate and writes down what left, and when."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.bus.packet import packet_stream
from sim.backends.base import Backend
from sim.host.storage import Storage

RECORDS = "wire_tx_records"
FRAMES = "wire_tx_frames"
SLOTS = 1024
SLOT_BYTES = 16384  #: room for a frame; the data of record slot n are in frame slot n
REPORT = SLOTS // 4  #: frames after which software is woken to take them
RECORD_BYTES = 32
LAST_LAP = 255  #: records are tagged 1..255 by the lap they belong to, 0 is a slot never used
OVERHEAD_BYTES = 24  #: of each frame on the wire: preamble and start 8, FCS 4, inter-packet gap 12 (IEEE 802.3)

RecordSlot = data.StructLayout(
    {"first": 64, "last": 64, "serial": 64, "length": 16, "error": 1, "underrun": 1, "unused": 38, "lap": 8}
)


class WireRecorder(wiring.Component):
    """A MAC's transmit side; frames go to storages ``wire_tx_records`` and ``wire_tx_frames``.

    The wire carries ``bytes_per_cycle``: a beat of *n* bytes keeps it busy for *n* / ``bytes_per_cycle`` cycles, and
    after a frame's last beat for those of ``OVERHEAD_BYTES`` more; ``ready`` is high in each cycle in which the wire
    becomes or is free. Fractions of cycles carry over while the wire stays busy. So 60 bytes at 8 bytes a cycle take 8
    beats every 10.5 cycles. A cycle inside a frame in which the wire is free and ``valid`` low marks the frame as an
    underrun.

    Ports
    -----
    cycle : In 64
        Edges taken since reset.
    wire : In packet_stream(width, serial_width)

    Parameters
    ----------
    width, serial_width : see :func:`hw.bus.packet.packet_stream`
    bytes_per_cycle : rate of the wire, a positive rational
    """

    def __init__(self, width: int, bytes_per_cycle: Fraction | int, serial_width: int = 0):
        if not isinstance(bytes_per_cycle, Fraction | int) or isinstance(bytes_per_cycle, bool):
            raise TypeError(f"bytes_per_cycle must be an integer or a Fraction, not {bytes_per_cycle!r}")
        if not 0 < bytes_per_cycle <= 4096 or Fraction(bytes_per_cycle).denominator > 1 << 20:
            raise ValueError(
                f"bytes_per_cycle must be in 0..4096 and no finer than 1/{1 << 20}, not {bytes_per_cycle!r}"
            )
        self.width = width
        self.bytes_per_cycle = Fraction(bytes_per_cycle)
        super().__init__({"cycle": In(64), "wire": In(packet_stream(width, serial_width))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = self.width // 8
        m.submodules.records = records = Storage(RECORDS, SLOTS * RECORD_BYTES, 8 * RECORD_BYTES)
        m.submodules.frames = frames = Storage(FRAMES, SLOTS * SLOT_BYTES, self.width)
        wire = self.wire
        accept = Signal()
        m.d.comb += accept.eq(wire.valid & wire.ready)

        # In parts of a byte: what the wire still has to carry at the beginning of this cycle.
        per_cycle, per_byte = self.bytes_per_cycle.as_integer_ratio()
        owed = Signal(range(per_cycle + (word + OVERHEAD_BYTES) * per_byte))
        total = Signal(range(2 * per_cycle + (word + OVERHEAD_BYTES) * per_byte))
        added = Mux(wire.p.last, wire.p.count + OVERHEAD_BYTES, wire.p.count) * per_byte
        m.d.comb += [wire.ready.eq(owed < per_cycle), total.eq(owed + Mux(accept, added, 0))]
        m.d.sync += owed.eq(Mux(total > per_cycle, total - per_cycle, 0))

        slot, lap = Signal(range(SLOTS)), Signal(8, init=1)
        length, inside, underrun = Signal(16), Signal(), Signal()
        first = Signal(64)
        record = Signal(RecordSlot)
        m.d.comb += [
            frames.port.write_enable.eq(accept),
            frames.port.write_address.eq(slot * SLOT_BYTES + length % SLOT_BYTES),
            frames.port.write_data.eq(wire.p.data),
            frames.port.write_strobe.eq((1 << wire.p.count) - 1),
            records.port.write_enable.eq(accept & wire.p.last),
            records.port.write_address.eq(slot * RECORD_BYTES),
            records.port.write_data.eq(record),
            records.port.write_strobe.eq(-1),
            record.first.eq(Mux(inside, first, self.cycle + 1)),
            record.last.eq(self.cycle + 1),
            record.serial.eq(wire.p.serial),
            record.length.eq(length + wire.p.count),
            record.error.eq(wire.p.error),
            record.underrun.eq(underrun),
            record.lap.eq(lap),
        ]
        with m.If(accept):
            m.d.sync += [length.eq(length + wire.p.count), inside.eq(1)]
            with m.If(~inside):
                m.d.sync += first.eq(self.cycle + 1)
            with m.If(wire.p.last):
                m.d.sync += [length.eq(0), inside.eq(0), underrun.eq(0), slot.eq(slot + 1)]
                with m.If(slot == SLOTS - 1):
                    m.d.sync += lap.eq(Mux(lap == LAST_LAP, 1, lap + 1))
        with m.Elif(inside & wire.ready):
            m.d.sync += underrun.eq(1)
        return m


class WireError(Exception):
    """Frames left unseen, or longer than any slot."""


class SentFrame(NamedTuple):
    """A frame that left."""

    first: int  #: edge that took its first beat
    last: int  #: edge that took its last beat
    data: bytes
    serial: int
    error: bool  #: marked as damaged by the device
    underrun: bool  #: the device paused inside the frame


class RecorderClient:
    """Software's side of a :class:`WireRecorder`; made after each reset.

    Attributes
    ----------
    tokens : watches that are hit each time a quarter of the ring is full: call :meth:`recorded` before all of it is
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self._records = backend.storage[RECORDS].data.cast("Q")
        self._frames = backend.storage[FRAMES].data
        self._taken = 0
        self.tokens = tuple(
            backend.watch(RECORDS, slot * RECORD_BYTES, (slot + 1) * RECORD_BYTES)
            for slot in range(REPORT - 1, SLOTS, REPORT)
        )

    def recorded(self) -> list[SentFrame]:
        """Frames that left since the last call, in order."""
        frames: list[SentFrame] = []
        while True:
            lap, slot = divmod(self._taken, SLOTS)
            first, last, serial, rest = self._records[4 * slot : 4 * slot + 4]
            if rest >> 56 != lap % LAST_LAP + 1:
                self._check_lap(rest >> 56, lap)
                return frames
            length = rest & 0xFFFF
            if length > SLOT_BYTES:
                raise WireError(f"A frame of {length} bytes left in cycle {last}; its slot has {SLOT_BYTES}")
            octets = bytes(self._frames[slot * SLOT_BYTES : slot * SLOT_BYTES + length])
            frames.append(SentFrame(first, last, octets, serial, bool(rest >> 16 & 1), bool(rest >> 17 & 1)))
            self._taken += 1

    def take(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames that left since the last call, all of one length, in order: the edges of their last beats, and their
        bytes, a row each. Raises :class:`WireError` for a frame of another length, or one that is damaged."""
        numbers = self._taken + np.arange(SLOTS)
        slots, laps = numbers % SLOTS, numbers // SLOTS
        records = np.frombuffer(self._records, np.uint64).reshape(-1, RECORD_BYTES // 8)[slots]
        rest = records[:, 3].astype(np.int64)
        fresh = records[:, 3] >> np.uint64(56) == laps % LAST_LAP + 1
        count = SLOTS if fresh.all() else int(np.argmin(fresh))
        if count < SLOTS:
            self._check_lap(int(records[count, 3] >> np.uint64(56)), int(laps[count]))
        lengths, damaged = rest[:count] & 0xFFFF, rest[:count] >> 16 & 3
        if (lengths != length).any() or damaged.any():
            raise WireError(
                f"Frames left that are not {length} bytes long, or damaged, before cycle {self._backend.cycle}"
            )
        self._taken += count
        frames = np.frombuffer(self._frames, np.uint8).reshape(SLOTS, SLOT_BYTES)
        return records[:count, 1].astype(np.int64), frames[slots[:count], :length]

    def _check_lap(self, found: int, lap: int) -> None:
        """A slot that has no new frame must have the one of the lap before."""
        if found != ((lap - 1) % LAST_LAP + 1 if lap else 0):
            raise WireError(
                f"More than {SLOTS} frames left before cycle {self._backend.cycle} without being taken from the "
                f"recorder"
            )
