# SPDX-License-Identifier: BSD-2-Clause
"""From the TX packet buffer to the wire."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, flipped
from amaranth.utils import ceil_log2

from hw.bus.join import join
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.interfaces import TracePoint, TxFrameEvent
from hw.nic.tx.layouts import PADDED_FRAME, SendBeat, TxFrame
from hw.nic.tx.rewrite import TxRewrite

BROADCAST = (1 << 48) - 1


class TxEgress(wiring.Component):
    """Send frames, in order, without a pause inside a frame and without one between frames.

    Only whole frames come in, so ``wire.valid`` stays high from first to last beat whatever ``wire.ready`` does. The
    first beat comes three cycles after its frame. A frame shorter than 60 bytes is padded to 60 with zeros, as MACs do.
    With ``config.tx_offload`` beats pass :class:`hw.nic.tx.rewrite.TxRewrite`, two cycles more; a tag counts in the 60.
    With ``config.segmentation`` frames to be discarded are passed over, a beat a cycle.

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
        config = self._config
        beat_bytes = config.beat_bytes
        frame = self.frames.payload
        started, moves = Signal(), Signal()
        position = Signal(16)  # bytes requested before this beat
        reached, following, left = Signal(16), Signal(16), Signal(16)
        skips = frame.discard if config.segmentation else 0
        padded = Mux(frame.length < PADDED_FRAME, PADDED_FRAME, frame.length)
        beat = self.request.payload.tag
        address = Signal(range(self._words))
        m.d.comb += [
            reached.eq(Mux(started, position, 0)),
            following.eq(reached + beat_bytes),
            left.eq((frame.sent_length if config.tx_offload else padded) - reached),
            beat.first.eq(~started),
            beat.last.eq(left <= beat_bytes),
            beat.count.eq(Mux(beat.last, left, beat_bytes)),
            beat.pad.eq(reached >= frame.length),
            beat.serial.eq(frame.serial),
            self.request.valid.eq(self.frames.valid & ~skips),
            self.request.payload.address.eq(address),
            moves.eq(self.frames.valid & (self.request.ready | skips)),
            self.frames.ready.eq((self.request.ready | skips) & beat.last),
        ]
        # A tag may take a beat more than the frame has words: the last word is kept for it.
        m.d.sync += self.released.eq(moves & (beat.last | (following < padded) if config.tx_offload else 1))
        with m.If(moves):
            m.d.sync += [
                started.eq(~beat.last),
                position.eq(following),
                address.eq(address + ~beat.pad),
            ]
        if config.tx_offload:
            lane = ceil_log2(beat_bytes)
            edits = frame.edits
            m.d.comb += [
                beat.tags.eq(edits.insert_vlan),
                beat.vlan.eq(edits.vlan),
                beat.second.eq(reached == beat_bytes),
            ]
            for i, patch in enumerate(edits.patches):
                m.d.comb += [
                    beat.patches[i].enable.eq(patch.enable & (patch.offset >> lane == reached >> lane)),
                    beat.patches[i].lane.eq(patch.offset[:lane]),
                    beat.patches[i].value.eq(patch.value),
                ]

    def _send(self, m: Module) -> None:
        """Beats onto the wire, and an event per frame."""
        response = self.response
        if self._config.tx_offload:
            m.submodules.rewrite = rewrite = TxRewrite(self._config)
            join(m, flipped(response), rewrite.input)
            response = rewrite.output
        word, beat = response.payload.data, response.payload.tag
        wire = self.wire.payload
        m.d.comb += response.ready.eq(~self.wire.valid | self.wire.ready)
        with m.If(response.ready):
            m.d.sync += self.wire.valid.eq(response.valid)
            with m.If(response.valid):
                m.d.sync += [
                    wire.data.eq(word if self._config.tx_offload else Mux(beat.pad, 0, word)),
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
