# SPDX-License-Identifier: BSD-2-Clause
"""From the TX packet buffer to the wire."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.join import join
from hw.bus.packet import packet_stream
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import TracePoint
from hw.nic.stats.events import TxFrameEvent
from hw.nic.tx.layouts import PATCH_OFFSET_BITS, SendBeat, TxFrame
from hw.nic.tx.rewrite import TxRewrite


class TxEgress(wiring.Component):
    """Send frames, in order, without a pause inside a frame and without one between frames.

    Only whole frames come in, so ``wire.valid`` stays high from first to last beat whatever ``wire.ready`` does. The
    first beat is requested two cycles after its frame came, and each is on the wire one cycle after its response. All
    of ``wire`` comes from registers. A frame shorter than 60 bytes is padded to 60 with zeros, as MACs do.

    With ``config.tx_offload`` beats pass :class:`hw.nic.tx.rewrite.TxRewrite`, two cycles more; a tag counts in the 60.
    With ``config.segmentation`` frames to be discarded are requested too, and go no further.

    Members
    -------
    frames : stream of :class:`hw.nic.tx.layouts.TxFrame`
    request, response : the packet buffer's read side, tagged with :class:`SendBeat`
    left : a frame's last beat went to the wire's skid buffer, or was discarded, in the cycle before
    released : a word set aside for a frame has left the buffer: one for each beat, padding too
    wire : frames to the MAC
    event : a frame's last beat was taken, two cycles after; its length counts the padding
    sent : trace point of the same, the cycle after
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        tag = SendBeat(config)
        members = {
            "frames": In(stream.Signature(TxFrame(config))),
            "request": Out(stream.Signature(data.StructLayout({"address": range(self._words), "tag": tag}))),
            "response": In(stream.Signature(data.StructLayout({"data": config.data_width, "tag": tag}))),
            "left": Out(1),
            "released": Out(1),
            "wire": Out(packet_stream(config.data_width, config.serial_width)),
            "event": Out(TxFrameEvent(config)),
        }
        if config.serial_width:
            members["sent"] = Out(TracePoint(config))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The wire's `ready` goes no further than this.
        m.submodules.skid = skid = SkidBuffer(self.wire.payload.shape())
        connect(m, skid.output, flipped(self.wire))
        # Nor does the packet buffer's go on to the frames.
        m.submodules.requests = requests = SkidBuffer(self.request.payload.shape())
        connect(m, requests.output, flipped(self.request))
        self._request(m, requests.input)
        self._send(m, skid.input)
        self._report(m)
        return m

    def _request(self, m: Module, request) -> None:
        """A request for each beat of the frame; one for padding reads nothing that counts."""
        config = self._config
        # In registers, from which the skid buffer takes it.
        beat, valid = Signal.like(request.payload), Signal()
        beats, tag, address = self.frames.payload.beats, beat.tag, beat.address
        step, load = Signal(), Signal()
        # Of the frame being requested: beats behind this one, padding, and what the last one holds.
        left, pads, count = Signal.like(beats.last), Signal.like(beats.pads), Signal.like(beats.count)
        m.d.comb += [
            request.valid.eq(valid),
            request.payload.eq(beat),
            request.payload.tag.count.eq(Mux(tag.last, count, config.beat_bytes)),
            step.eq(valid & request.ready),
            load.eq(~valid | (step & tag.last)),
            self.frames.ready.eq(load),
        ]
        with m.If(step):
            m.d.sync += [
                left.eq(left - 1),
                tag.first.eq(0),
                tag.last.eq(left == 1),
                tag.pad.eq(tag.pad | (left == pads)),
                address.eq(address + ~tag.pad),
            ]
        with m.If(load):
            m.d.sync += [
                valid.eq(self.frames.valid),
                left.eq(beats.last),
                pads.eq(beats.pads),
                count.eq(beats.count),
                tag.serial.eq(self.frames.payload.serial),
                tag.first.eq(1),
                tag.last.eq(beats.last == 0),
                tag.pad.eq(0),
            ]
        if config.tx_offload:
            self._request_edits(m, tag, request.payload.tag, step, load)

    def _request_edits(self, m: Module, tag, asked, step, load) -> None:
        """What is to be done to the beat."""
        frame = self.frames.payload
        lane = exact_log2(self._config.beat_bytes)
        edits, extra = Signal.like(frame.edits), Signal()
        index = Signal(PATCH_OFFSET_BITS + 1 - lane)  # of the beat; behind all patches it stays where it is
        with m.If(step):
            m.d.sync += [index.eq(index + ~index.all()), tag.second.eq(tag.first)]
        with m.If(load):
            m.d.sync += [edits.eq(frame.edits), extra.eq(frame.beats.extra), index.eq(0), tag.second.eq(0)]
        m.d.comb += [
            asked.tags.eq(edits.insert_vlan),
            asked.vlan.eq(edits.vlan),
            asked.keeps.eq(extra & tag.first),
        ]
        for patch, of_beat in zip(edits.patches, asked.patches, strict=True):
            m.d.comb += [
                of_beat.enable.eq(patch.enable & (patch.offset[lane:] == index)),
                of_beat.lane.eq(patch.offset[:lane]),
                of_beat.value.eq(patch.value),
            ]
        if self._config.segmentation:
            with m.If(load):
                m.d.sync += tag.discard.eq(frame.discard)

    def _send(self, m: Module, wire) -> None:
        """Beats onto the wire."""
        response = self.response
        kept = response.payload.tag.keeps if self._config.tx_offload else 0
        m.d.sync += self.released.eq(response.valid & response.ready & ~kept)
        if self._config.tx_offload:
            m.submodules.rewrite = rewrite = TxRewrite(self._config)
            join(m, flipped(response), rewrite.input)
            response = rewrite.output
        word, beat = response.payload.data, response.payload.tag
        m.d.sync += self.left.eq(response.valid & response.ready & beat.last)
        m.d.comb += [
            response.ready.eq(wire.ready),
            wire.valid.eq(response.valid & ~(beat.discard if self._config.segmentation else 0)),
            wire.payload.data.eq(word if self._config.tx_offload else Mux(beat.pad, 0, word)),
            wire.payload.count.eq(beat.count),
            wire.payload.first.eq(beat.first),
            wire.payload.last.eq(beat.last),
            wire.payload.serial.eq(beat.serial),
        ]

    def _report(self, m: Module) -> None:
        """An event per frame."""
        wire = self.wire.payload
        taken, ends, counts = self.wire.valid & self.wire.ready, Signal(), Signal()
        begins, count = Signal(), Signal.like(wire.count)
        broadcast, group = Signal(), Signal()
        m.d.sync += [
            counts.eq(taken),
            ends.eq(taken & wire.last),
            begins.eq(wire.first),
            count.eq(wire.count),
        ]
        with m.If(taken & wire.first):
            m.d.sync += [broadcast.eq(wire.data[:48].all()), group.eq(wire.data[0])]

        event = self.event
        with m.If(counts):
            m.d.sync += event.length.eq(Mux(begins, 0, event.length) + count)
        m.d.sync += [
            event.strobe.eq(ends),
            event.broadcast.eq(broadcast),
            event.multicast.eq(group & ~broadcast),
        ]
        if self._config.serial_width:
            m.d.sync += [self.sent.strobe.eq(taken & wire.last), self.sent.serial.eq(wire.serial)]
