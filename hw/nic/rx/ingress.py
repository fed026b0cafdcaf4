# SPDX-License-Identifier: BSD-2-Clause
"""From the wire into the packet buffer: whole good frames only."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import LINE_BYTES, DropReason
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.interfaces import RxFrameEvent, TracePoint
from hw.nic.rx.layouts import RxFrame

BROADCAST = (1 << 48) - 1
MAX_COUNTED_LENGTH = (1 << 16) - 1


class RxIngress(wiring.Component):
    """Store frames as they arrive, and forward those that are whole and good.

    The wire has no backpressure: ``wire.ready`` is always high, one beat a cycle. A frame's words are written behind
    those of the frame before; at its last beat the frame is either committed, and appears on ``frames`` three cycles
    later, or dropped, and its words are free at once. Frames leave in the order of their last beats.

    A frame is dropped for the first of these that holds: LINK_DOWN (``rx_enable`` or ``carrier`` low at its first
    beat), BAD_FCS, RUNT, OVERSIZE, OVERFLOW (the buffer had no room for one of its beats, or for one more frame: a
    frame for each 64 bytes of buffer). Every frame gives one ``event``, the cycle after its last beat, with its length
    counted up to 65,535 whatever became of it. Beats before the first ``first`` after reset belong to no frame. A frame
    with an empty beat, or one before its last that is not full, is as damaged as one with ``error``: BAD_FCS. Its bytes
    would not lie in the buffer as its length says.

    Members
    -------
    wire : frames from the MAC
    rx_enable, carrier : frames are wanted; the wire is alive
    min_length, max_length : limits in bytes without FCS; none beyond ``config.max_frame`` is accepted whatever the
        latter. They may change at any time; a frame that once was too long stays so
    write_enable, write_address, write_data : to the packet buffer
    read_pointer : from the reader: number of words read, modulo twice the buffer's; those are free
    frames : stream of :class:`hw.nic.rx.layouts.RxFrame`
    stored : the wire's beat of this cycle ends a frame that will appear on ``frames``
    event : every frame's fate
    accepted, dropped : trace points, where the frame has a serial
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.rx_buffer_bytes // config.beat_bytes
        members = {
            "wire": In(packet_stream(config.data_width, config.serial_width)),
            "rx_enable": In(1),
            "carrier": In(1),
            "min_length": In(16),
            "max_length": In(16),
            "write_enable": Out(1),
            "write_address": Out(range(self._words)),
            "write_data": Out(config.data_width),
            "read_pointer": In(range(2 * self._words)),
            "frames": Out(stream.Signature(RxFrame(config))),
            "stored": Out(1),
            "event": Out(RxFrameEvent(config)),
        }
        if config.serial_width:
            members |= {"accepted": Out(TracePoint(config)), "dropped": Out(TracePoint(config))}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.fifo = fifo = CommitFifo(RxFrame(config), config.rx_buffer_bytes // LINE_BYTES)
        wiring.connect(m, wiring.flipped(self.frames), fifo.output)

        beat = self.wire.payload
        active = Signal()  # between a frame's first and last beat
        running, ends = Signal(), Signal()
        m.d.comb += [
            self.wire.ready.eq(1),
            running.eq(self.wire.valid & (beat.first | active)),
            ends.eq(running & beat.last),
        ]

        # The frame so far, as of this beat. Registers hold it as of the beat before.
        length, total = Signal(16), Signal(16)
        destination, address = Signal(48), Signal(48)
        refused, refuse = Signal(), Signal()
        uneven_before, uneven = Signal(), Signal()
        overflowed, overflow = Signal(), Signal()
        committed, position, next_word = (Signal(range(2 * self._words), name=n) for n in ("committed", "word", "next"))
        limit, too_long, store = Signal(16, init=config.max_frame), Signal(), Signal()
        was_too_long = Signal()
        sum_ = Signal(17)
        first_bytes = Signal(48)
        m.d.comb += [
            first_bytes.eq(beat.data[:48]),
            sum_.eq(Mux(beat.first, 0, length) + beat.count),
            total.eq(Mux(sum_[16], MAX_COUNTED_LENGTH, sum_)),
            address.eq(Mux(beat.first, first_bytes, destination)),
            refuse.eq(Mux(beat.first, ~(self.rx_enable & self.carrier), refused)),
            uneven.eq(
                (~beat.first & uneven_before) | (beat.count == 0) | (~beat.last & (beat.count != config.beat_bytes))
            ),
            position.eq(Mux(beat.first, committed, next_word)),
            too_long.eq((~beat.first & was_too_long) | (total > limit)),
            overflow.eq(
                (~beat.first & overflowed) | ((position ^ self.read_pointer) == self._words) | (beat.last & ~fifo.room)
            ),
            store.eq(running & ~refuse & ~too_long & ~overflow),
            self.write_enable.eq(store),
            self.write_address.eq(position),
            self.write_data.eq(beat.data),
        ]
        m.d.sync += limit.eq(Mux(self.max_length < config.max_frame, self.max_length, config.max_frame))
        with m.If(running):
            m.d.sync += [
                active.eq(~beat.last),
                length.eq(total),
                destination.eq(address),
                refused.eq(refuse),
                was_too_long.eq(too_long),
                uneven_before.eq(uneven),
                overflowed.eq(overflow),
                # Behind a beat that is not stored no other of its frame is.
                next_word.eq(position + 1),
            ]

        drop, reason = Signal(), Signal(DropReason)
        m.d.comb += drop.eq(1)
        with m.If(refuse):
            m.d.comb += reason.eq(DropReason.LINK_DOWN)
        with m.Elif(beat.error | uneven):
            m.d.comb += reason.eq(DropReason.BAD_FCS)
        with m.Elif(total < self.min_length):
            m.d.comb += reason.eq(DropReason.RUNT)
        with m.Elif(too_long):
            m.d.comb += reason.eq(DropReason.OVERSIZE)
        with m.Elif(overflow):
            m.d.comb += reason.eq(DropReason.OVERFLOW)
        with m.Else():
            m.d.comb += drop.eq(0)

        accept = Signal()
        m.d.comb += [
            accept.eq(ends & ~drop),
            self.stored.eq(accept),
            fifo.push.eq(accept),
            fifo.commit.eq(accept),
            fifo.payload.length.eq(total),
            fifo.payload.destination.eq(address),
            fifo.payload.serial.eq(beat.serial),
        ]
        with m.If(accept):
            m.d.sync += committed.eq(position + 1)

        m.d.sync += self.event.strobe.eq(ends)
        with m.If(ends):
            m.d.sync += [
                self.event.length.eq(total),
                self.event.broadcast.eq(address == BROADCAST),
                self.event.multicast.eq(address[0] & (address != BROADCAST)),
                self.event.dropped.eq(drop),
                self.event.reason.eq(reason),
            ]
        if config.serial_width:
            m.d.sync += [
                self.accepted.strobe.eq(accept),
                self.accepted.serial.eq(beat.serial),
                self.dropped.strobe.eq(ends & drop),
                self.dropped.serial.eq(beat.serial),
                self.dropped.detail.eq(reason),
            ]
        return m
