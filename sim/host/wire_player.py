# SPDX-License-Identifier: BSD-2-Clause
"""The wire's receive side: frames that wait in storage reach the NIC at their cycle."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.bus.packet import packet_stream
from sim.backends.base import Backend
from sim.host.storage import Storage

HEADERS = "wire_rx_headers"
FRAMES = "wire_rx_frames"
SLOTS = 1024
SLOT_BYTES = 16384  #: room for a frame; the data of header slot n are in frame slot n
REPORT = SLOTS // 4  #: frames after which the player tells how far it is
HEADER_BYTES = 16
PLAYED = SLOTS * HEADER_BYTES  #: byte offset of the count of frames played, among the headers
LAST_LAP = 255  #: headers are tagged 1..255 by the lap they belong to, 0 is a slot never used
AHEAD = 3  #: a frame must be in its slot this many edges before the one that takes its first beat

#: A header slot. ``start``: edge that takes the first beat, at the earliest.
HeaderSlot = data.StructLayout({"start": 64, "length": 16, "bad_fcs": 1, "unused": 7, "serial": 32, "lap": 8})


class WirePlayer(wiring.Component):
    """Plays frames from storages ``wire_rx_headers`` and ``wire_rx_frames`` as a MAC without buffer does.

    The first beat of a frame is taken by edge ``start`` if the frame is there ``AHEAD`` edges before and the frame
    before it has ended, else by the first edge after that at which both hold. Inside a frame, and between frames that
    are due, ``valid`` stays high. A receiver that is not ready delays all that follows.

    Ports
    -----
    cycle : In 64
        Edges taken since reset.
    wire : Out packet_stream(width, serial_width)
        ``error`` with the last beat of a frame with ``bad_fcs``.

    Parameters
    ----------
    width, serial_width : see :func:`hw.bus.packet.packet_stream`
    """

    def __init__(self, width: int, serial_width: int = 0):
        self.width = width
        super().__init__({"cycle": In(64), "wire": Out(packet_stream(width, serial_width))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = self.width // 8
        m.submodules.headers = headers = Storage(HEADERS, PLAYED + HEADER_BYTES, 8 * HEADER_BYTES)
        m.submodules.frames = frames = Storage(FRAMES, SLOTS * SLOT_BYTES, self.width)
        header = data.View(HeaderSlot, headers.port.read_data)
        wire = self.wire

        slot, following, lap = Signal(range(SLOTS)), Signal(range(SLOTS)), Signal(8, init=1)
        present, take = Signal(), Signal()
        m.d.comb += [
            present.eq(header.lap == lap),
            following.eq(Mux(take, slot + 1, slot)),
            headers.port.read_enable.eq(~present | take),
            headers.port.read_address.eq(following * HEADER_BYTES),
        ]
        with m.If(take):
            m.d.sync += slot.eq(following)
            with m.If(slot == SLOTS - 1):
                m.d.sync += lap.eq(Mux(lap == LAST_LAP, 1, lap + 1))

        left, address = Signal(16), Signal(range(SLOTS * SLOT_BYTES))  # of the frame, beyond the beat on the wire
        move, fetch, ends = Signal(), Signal(), Signal()
        length, begin = Signal(16), Signal.like(address)
        bad_fcs = Signal()
        m.d.comb += [
            move.eq(~wire.valid | wire.ready),
            take.eq(move & (left == 0) & present & (self.cycle + (AHEAD - 1) >= header.start)),
            fetch.eq(move & ((left != 0) | take)),
            length.eq(Mux(take, header.length, left)),
            begin.eq(Mux(take, slot * SLOT_BYTES, address)),
            ends.eq(length <= word),
            frames.port.read_enable.eq(fetch),
            frames.port.read_address.eq(begin),
            wire.p.data.eq(frames.port.read_data),
        ]
        with m.If(move):
            m.d.sync += [
                wire.valid.eq(fetch),
                wire.p.first.eq(take),
                wire.p.last.eq(ends),
                wire.p.count.eq(Mux(ends, length, word)),
                wire.p.error.eq(ends & Mux(take, header.bad_fcs, bad_fcs)),
            ]
        with m.If(fetch):
            m.d.sync += [left.eq(Mux(ends, 0, length - word)), address.eq(begin + word)]
        with m.If(take):
            m.d.sync += [wire.p.serial.eq(header.serial), bad_fcs.eq(header.bad_fcs)]

        played = Signal(32)
        m.d.comb += [
            headers.port.write_enable.eq(fetch & ends & ((played + 1) % REPORT == 0)),
            headers.port.write_address.eq(PLAYED),
            headers.port.write_data.eq(played + 1),
            headers.port.write_strobe.eq(-1),
        ]
        with m.If(fetch & ends):
            m.d.sync += played.eq(played + 1)
        return m


class PlayerClient:
    """Software's side of a :class:`WirePlayer`; made after each reset.

    Attributes
    ----------
    token : the watch that is hit when there is room for more frames: call :meth:`refill` then
    queued : frames given to the player
    late : how many of them came too late for their start
    exhausted : no frame waits for room
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self._headers = backend.storage[HEADERS].data.cast("Q")
        self._frames = backend.storage[FRAMES]
        self._source: Iterator[tuple[int, bytes, int, bool]] = iter(())
        self.queued = 0
        self.late = 0
        self.exhausted = True
        self.token = backend.watch(HEADERS, PLAYED, PLAYED + HEADER_BYTES)

    def play(self, frames: Iterable[tuple[int, bytes, int, bool]]) -> None:
        """Play frames after those given before: start cycle, bytes without FCS, serial, bad FCS.

        They are taken from the iterable only as there is room. Raises ``ValueError`` for a frame that cannot be played,
        and if frames given before still wait.
        """
        if not self.exhausted:
            raise ValueError("Frames given before still wait for room in the player's ring")
        self._source = iter(frames)
        self.exhausted = False
        self.refill()

    def refill(self) -> None:
        """Give the player as many frames as it has room for."""
        earliest = self._backend.cycle + AHEAD
        for _ in range(0 if self.exhausted else self.room):
            frame = next(self._source, None)
            if frame is None:
                self.exhausted = True
                return
            self.late += frame[0] < earliest
            self._put(*frame)

    @property
    def room(self) -> int:
        """Frames that fit into the player's ring."""
        return SLOTS - (self.queued - self._headers[PLAYED // 8] & 0xFFFF_FFFF)

    def put(self, starts: np.ndarray, frames: np.ndarray) -> None:
        """Give the player frames of one length, a row each, with their start cycles; at most :attr:`room`.

        Their serials count all frames given to it.
        """
        count, length = frames.shape
        if not 1 <= length <= SLOT_BYTES or count > self.room:
            raise ValueError(f"At most {self.room} frames of 1..{SLOT_BYTES} bytes fit, not {count!r} of {length!r}")
        numbers = self.queued + np.arange(count)
        slots, tags = numbers % SLOTS, numbers // SLOTS % LAST_LAP + 1
        self._frames.reshape(SLOTS, SLOT_BYTES)[slots, :length] = frames
        headers = np.frombuffer(self._headers, np.int64)
        headers[2 * slots] = starts
        headers[2 * slots + 1] = length | (numbers & 0xFFFF_FFFF) << 24 | tags << 56
        self.late += int((starts < self._backend.cycle + AHEAD).sum())
        self.queued += count

    def _put(self, start: int, octets: bytes, serial: int, bad_fcs: bool) -> None:
        length = len(octets)
        if not 1 <= length <= SLOT_BYTES:
            raise ValueError(f"A frame on the wire has 1..{SLOT_BYTES} bytes, not {length!r}")
        if not 0 <= start < 1 << 64:
            raise ValueError(f"A frame's start must be a cycle in 0..2**64-1, not {start!r}")
        lap, slot = divmod(self.queued, SLOTS)
        self._frames[slot * SLOT_BYTES : slot * SLOT_BYTES + length] = np.frombuffer(octets, np.uint8)
        tag = lap % LAST_LAP + 1
        self._headers[2 * slot] = start
        self._headers[2 * slot + 1] = length | bool(bad_fcs) << 16 | (serial & 0xFFFF_FFFF) << 24 | tag << 56
        self.queued += 1
