# SPDX-License-Identifier: BSD-2-Clause
"""From the TX packet buffer to the wire."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.interfaces import TracePoint, TxFrameEvent
from hw.nic.tx.layouts import PADDED_FRAME, TxFrame

BROADCAST = (1 << 48) - 1


class SendBeat(data.StructLayout):
    """A beat on its way through the packet buffer. ``pad``: it lies behind the frame's bytes and is all zeros."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "count": range(config.beat_bytes + 1),
                "first": 1,
                "last": 1,
                "pad": 1,
                "serial": config.serial_width,
            }
        )


class TxEgress(wiring.Component):
    """Send frames, in order, without a pause inside a frame and without one between frames.

    Only whole frames come in, so ``wire.valid`` stays high from first to last beat whatever ``wire.ready`` does. The
    first beat comes three cycles after its frame. A frame shorter than 60 bytes is padded to 60 with zeros, as MACs do.

    Members
    -------
    frames : stream of :class:`hw.nic.tx.layouts.TxFrame`
    request, response : the packet buffer's read side, tagged with :class:`SendBeat`
    released : a word set aside for the frame is not needed any more: one for each beat, padding too
    wire : frames to the MAC
    event : a frame's last beat was taken, the cycle after; its length counts the padding
    sent : trace point of the same
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        tag = SendBeat(config)
        members = {
            "frames": In(stream.Signature(TxFrame(config))),
            "request": Out(stream.Signature(data.StructLayout({"address": range(self._words), "tag": tag}))),
            "response": In(stream.Signature(data.StructLayout({"data": config.data_width, "tag": tag}))),
            "released": Out(1),
            "wire": Out(packet_stream(config.data_width, config.serial_width)),
            "event": Out(TxFrameEvent(config)),
        }
        if config.serial_width:
            members["sent"] = Out(TracePoint(config))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._issue(m)
        self._send(m)
        return m

    def _issue(self, m: Module) -> None:
        """A request for each beat of the padded frame; one for padding reads nothing that counts."""
        beat_bytes = self._config.beat_bytes
        frame = self.frames.payload
        started, moves = Signal(), Signal()
        position = Signal(16)  # bytes requested before this beat
        reached, left = Signal(16), Signal(16)
        beat = self.request.payload.tag
        address = Signal(range(self._words))
        m.d.comb += [
            reached.eq(Mux(started, position, 0)),
            left.eq(Mux(frame.length < PADDED_FRAME, PADDED_FRAME, frame.length) - reached),
            beat.first.eq(~started),
            beat.last.eq(left <= beat_bytes),
            beat.count.eq(Mux(beat.last, left, beat_bytes)),
            beat.pad.eq(reached >= frame.length),
            beat.serial.eq(frame.serial),
            self.request.valid.eq(self.frames.valid),
            self.request.payload.address.eq(address),
            moves.eq(self.request.valid & self.request.ready),
            self.frames.ready.eq(self.request.ready & beat.last),
        ]
        m.d.sync += self.released.eq(moves)
        with m.If(moves):
            m.d.sync += [
                started.eq(~beat.last),
                position.eq(reached + beat_bytes),
                address.eq(address + ~beat.pad),
            ]

    def _send(self, m: Module) -> None:
        """Beats onto the wire, and an event per frame."""
        word, beat = self.response.payload.data, self.response.payload.tag
        wire = self.wire.payload
        m.d.comb += self.response.ready.eq(~self.wire.valid | self.wire.ready)
        with m.If(self.response.ready):
            m.d.sync += self.wire.valid.eq(self.response.valid)
            with m.If(self.response.valid):
                m.d.sync += [
                    wire.data.eq(Mux(beat.pad, 0, word)),
                    wire.count.eq(beat.count),
                    wire.first.eq(beat.first),
                    wire.last.eq(beat.last),
                    wire.serial.eq(beat.serial),
                ]

        length, total = Signal(16), Signal(16)
        destination, address = Signal(48), Signal(48)
        first_bytes = Signal(48)
        taken = self.wire.valid & self.wire.ready
        m.d.comb += [
            first_bytes.eq(wire.data[:48]),
            total.eq(Mux(wire.first, 0, length) + wire.count),
            address.eq(Mux(wire.first, first_bytes, destination)),
        ]
        with m.If(taken):
            m.d.sync += [length.eq(total), destination.eq(address)]
        m.d.sync += [
            self.event.strobe.eq(taken & wire.last),
            self.event.length.eq(total),
            self.event.broadcast.eq(address == BROADCAST),
            self.event.multicast.eq(address[0] & (address != BROADCAST)),
        ]
        if self._config.serial_width:
            m.d.sync += [self.sent.strobe.eq(taken & wire.last), self.sent.serial.eq(wire.serial)]
