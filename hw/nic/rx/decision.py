# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of a frame, once its descriptor is there."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import BUFFER_ID_BITS, INDEX_BITS, DropReason, FillDescriptor
from hw.config import NicConfig
from hw.nic.interfaces import DescriptorTake
from hw.nic.rx.lookups import Lookup


class Verdict(data.StructLayout):
    """A segment of a frame that was looked up.

    Members
    -------
    valid, final : there is one; it is its frame's last, and what was given before belongs to it
    first : what was given before, and was not followed by a final one, is forgotten
    drop, reason : the frame is dropped; nothing that was given before belongs to it
    split : the frame's headers go to a header buffer
    address, length, buffer_id : where it goes, as in :class:`hw.nic.rx.layouts.Segment`
    queue : of the frame
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "valid": 1,
                "final": 1,
                "first": 1,
                "drop": 1,
                "reason": DropReason,
                "split": 1,
                "address": 64,
                "length": 16,
                "buffer_id": BUFFER_ID_BITS,
                "queue": range(config.queues),
            }
        )


class RxDecision(wiring.Component):
    """Judge lookups, one a cycle, in order.

    A frame whose descriptor covers it is given that buffer. One whose does not, or that is dropped because of its
    descriptor, makes ``restart`` high, so that nothing is taken for granted: the first is then looked up as one of
    ``many``, and given its buffers when the last descriptor covers the rest, or dropped for want of a slot for each.

    Three cycles after a lookup came in, all outputs tell of it, together.

    Members
    -------
    lookup_valid, lookup : a :class:`hw.nic.rx.lookups.Lookup`
    entry : its descriptor, the cycle after it
    free : free completion slots of each queue
    place : of the frame whose verdict comes in the next cycle, see :class:`hw.nic.rx.frame_window.FrameWindow`
    verdict : a :class:`Verdict`
    take : the descriptors of the frame, which leave the cache
    segments : of the frame that is decided with the verdict
    empty : a descriptor of ``verdict.queue`` has length 0
    restart, many : see :class:`hw.nic.rx.lookups.RxLookups`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        count = range(config.fetch_depth + 1)
        super().__init__(
            {
                "lookup_valid": In(1),
                "lookup": In(Lookup(config)),
                "entry": In(FillDescriptor),
                "free": In(data.ArrayLayout(INDEX_BITS, config.queues)),
                "place": Out(Lookup(config)["place"].shape),
                "verdict": Out(Verdict(config)),
                "take": Out(DescriptorTake(config)),
                "segments": Out(count),
                "empty": Out(1),
                "restart": Out(1),
                "many": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        judged_valid, judged = Signal(), Signal(Lookup(self._config))
        entry = Signal(FillDescriptor)  # of the lookup that is judged
        remaining, uncovered = Signal(16), Signal(16)  # bytes of its frame before and behind its buffer
        covers, empty = Signal(), Signal()
        flush = Signal()  # the first cycle of `restart`

        # The cycle of the descriptor.
        asked_valid, asked = Signal(), Signal(Lookup(self._config))
        left = Signal(16)  # bytes that its buffer may take
        m.d.sync += [
            asked_valid.eq(self.lookup_valid & ~self.restart),
            asked.eq(self.lookup),
            left.eq(Mux(self.lookup.first, self.lookup.length, uncovered)),
            judged_valid.eq(asked_valid & ~self.restart),
        ]
        with m.If(asked_valid):
            m.d.sync += [
                judged.eq(asked),
                entry.eq(self.entry),
                remaining.eq(left),
                uncovered.eq(left - self.entry.length),
                covers.eq(self.entry.length >= left),
                empty.eq(self.entry.length == 0),
            ]

        # The cycle of the decision.
        looked, collecting = Signal(range(self._config.fetch_depth)), Signal()  # buffers that the frame has already
        count = Signal.like(self.segments)
        short = Signal()  # it has as many as there are slots
        here, found, full, good, more, drops, final = (
            Signal(name=n) for n in ("here", "found", "full", "good", "more", "drops", "final")
        )
        wrong = Signal()
        m.d.sync += short.eq(self.free[judged.queue] <= looked)
        m.d.comb += [
            here.eq(judged_valid & ~flush),
            found.eq(here & judged.found),
            full.eq(collecting & short),
            good.eq(found & ~full & ~empty & covers),
            more.eq(found & ~full & ~empty & ~covers),
            drops.eq(full | (here & ~judged.found) | (found & empty)),
            final.eq(good | drops),
            wrong.eq((final & judged.many) | (found & empty) | (more & ~judged.many)),
            count.eq(looked + 1),
            self.place.eq(judged.place),
        ]
        with m.If(wrong):
            m.d.sync += self.many.eq(more)
        with m.If(final):
            m.d.sync += [looked.eq(0), collecting.eq(0)]
        with m.Elif(more & judged.many):
            m.d.sync += [looked.eq(count), collecting.eq(1)]

        verdict = self.verdict
        m.d.sync += [
            flush.eq(wrong),
            self.restart.eq(wrong | flush),
            self.empty.eq(found & empty & ~full),
            self.take.strobe.eq(good),
            self.take.queue.eq(judged.queue),
            self.take.count.eq(count),
            self.segments.eq(Mux(drops, 1, count)),
            verdict.valid.eq(final | (more & judged.many)),
            verdict.final.eq(final),
            verdict.first.eq(~collecting),
            verdict.drop.eq(drops),
            verdict.reason.eq(judged.reason),
            verdict.split.eq(judged.split),
            verdict.address.eq(entry.address),
            verdict.length.eq(Mux(covers, remaining, entry.length)),
            verdict.buffer_id.eq(entry.buffer_id),
            verdict.queue.eq(judged.queue),
        ]
        with m.If(full):
            m.d.sync += verdict.reason.eq(DropReason.COMPLETION_FULL)
        with m.Elif(judged.found):
            m.d.sync += verdict.reason.eq(DropReason.QUEUE_DISABLED)
        return m
