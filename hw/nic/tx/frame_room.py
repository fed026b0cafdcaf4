# SPDX-License-Identifier: BSD-2-Clause
"""Room in the TX packet buffer for the frames whose turn it is."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.config import NicConfig
from hw.nic.tx.turns import NextFrame, is_stopped


class FrameRoom(wiring.Component):
    """Hold each frame back until the packet buffer has room for all of it, or its queue has stopped.

    Words asked for are summed as frames come, free ones as they are given back. A frame has its room once the second
    sum has reached what the first was with it: that a frame leaves changes neither, so no sum waits for it, and what
    has room once keeps it.

    A frame is offered two cycles after it came; one a cycle. Words given back are seen four cycles later.
    ``frames.ready`` and ``output.valid`` come from registers, ``output.ready`` may come late in the cycle. With
    ``config.segmentation`` room is :class:`hw.nic.tx.segmenter.TxSegmenter`'s affair, and no frame waits for it here.

    Members
    -------
    enable : as in :class:`hw.nic.interfaces.QueueControl`
    frames : stream of :class:`hw.nic.tx.turns.NextFrame`
    output : the same; ``stopped`` if the queue was not enabled at some time since the frame was chosen
    released : a word that was set aside is free again
    returned, unused : that many words are: of a frame that is not sent, of one that was offered and not taken
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        super().__init__(
            {
                "enable": In(config.queues),
                "frames": In(stream.Signature(NextFrame(config))),
                "output": Out(stream.Signature(NextFrame(config))),
                "released": In(1),
                "returned": In(range(self._words + 1)),
                "unused": In(range(self._words + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The sums are apart by the buffer at most, or by the frames held here and those just dropped: three each, of
        # which the buffer holds two.
        sum_ = unsigned(bits_for(2 * self._words) + 1)
        asked, free = Signal(sum_), Signal(sum_, init=self._words)
        self._count(m, asked, free)

        # What comes while the output stands still waits in the spare place, and the frame behind it where it came.
        came, spare, held = (
            Signal(NextFrame(self._config), name=n, reset_less=True) for n in ("came", "spare", "held")
        )
        arrived, occupied, holds = Signal(), Signal(), Signal()
        spare_upto, held_upto = Signal(sum_, reset_less=True), Signal(sum_, reset_less=True)
        fits, spare_fits, held_fits, moves = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.frames.ready.eq(~occupied),
            self.output.payload.eq(held),
            moves.eq(~holds | (self.output.valid & self.output.ready)),
            fits.eq(~(free - asked)[sum_.width - 1]),
            held_fits.eq(~(free - held_upto)[sum_.width - 1]),
        ]
        for place in (came, spare, held):
            m.d.sync += place.stopped.eq(is_stopped(place, self.enable))
        with m.If(~occupied):
            m.d.sync += [arrived.eq(self.frames.valid), spare_fits.eq(fits), spare_upto.eq(asked)]
            self._pass(m, self.frames.payload, came)
            self._pass(m, came, spare)
        # As sums of products, as a reset of the flag's own would be the longest way (docs/synthesis.md).
        offers_spare = occupied & (spare_fits | spare.stopped)
        offers_new = ~occupied & arrived & (fits | came.stopped)
        stays = self.output.valid | held_fits | held.stopped
        m.d.sync += [
            self.output.valid.eq((moves & (offers_spare | offers_new)) | (~moves & stays)),
            holds.eq((moves & (arrived | occupied)) | (~moves & holds)),
            occupied.eq(~moves & (occupied | arrived)),
        ]
        with m.If(moves):
            with m.If(occupied):
                m.d.sync += held_upto.eq(spare_upto)
                self._pass(m, spare, held)
            with m.Else():
                m.d.sync += held_upto.eq(asked)
                self._pass(m, came, held)
        return m

    def _pass(self, m: Module, frame: data.View, place: data.View) -> None:
        m.d.sync += [place.eq(frame), place.stopped.eq(is_stopped(frame, self.enable))]

    def _count(self, m: Module, asked: Signal, free: Signal) -> None:
        """Sum up the words asked for, of the frames up to the one that came last, and those ever free."""
        if self._config.segmentation:
            return
        with m.If(self.frames.valid & self.frames.ready):
            m.d.sync += asked.eq(asked + self.frames.payload.record.words)
        given, unused, back = Signal.like(self.returned), Signal.like(self.unused), Signal(range(2 * self._words + 2))
        m.d.sync += [
            given.eq(self.released + self.returned),
            unused.eq(self.unused),
            back.eq(given + unused),
            free.eq(free + back),
        ]
