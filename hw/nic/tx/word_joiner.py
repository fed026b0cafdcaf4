# SPDX-License-Identifier: BSD-2-Clause
"""Beats of pieces become words of frames."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.dma.lanes import below, rotate_up
from hw.nic.tx.layouts import GatheredWord, TxFrameJob

JOIN_STAGES = 3


class Placement(data.StructLayout):
    """Where a piece's bytes come to lie in the words of its frame.

    Members
    -------
    offset : lane of its first byte
    fills : its last beat fills a word
    spills : and has bytes for one more, in which the frame ends
    """

    def __init__(self, config: NicConfig):
        super().__init__({"offset": range(config.beat_bytes), "fills": 1, "spills": 1})


class WordJoiner(wiring.Component):
    """Shift the beats of each piece to follow the piece before, and put the words into the packet buffer.

    A word is there ``JOIN_STAGES`` cycles after the beat that fills it. Where a frame's last beat spills into a word of
    its own, that comes a cycle later, and in the cycle after the beat, ``spilling``, none may come. The words of a
    frame that is given up are overwritten by the next frame's.

    Members
    -------
    strobe : a beat comes
    data, count, last : of its piece, as in :class:`hw.nic.interfaces.Bytes`
    placement : of its piece
    ends : it is its frame's last
    failed : with ``ends``: the frame is given up
    job : its frame's
    spilling : no beat may come
    word, address : to the packet buffer
    word_job : the word's
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._words = config.tx_buffer_bytes // config.beat_bytes
        super().__init__(
            {
                "strobe": In(1),
                "data": In(config.data_width),
                "count": In(range(config.beat_bytes + 1)),
                "last": In(1),
                "placement": In(Placement(config)),
                "ends": In(1),
                "failed": In(1),
                "job": In(TxFrameJob(config)),
                "spilling": Out(1),
                "word": Out(GatheredWord(config)),
                "address": Out(range(self._words)),
                "word_job": Out(TxFrameJob(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, beat_bytes = self._config.data_width, self._config.beat_bytes
        placement = self.placement

        # Bytes that do not count become zero.
        masked, offset = Signal(width), Signal.like(placement.offset)
        valid, fills, writes, ends, failed = (Signal(name=n) for n in ("valid", "fills", "writes", "ends", "failed"))
        spills = Signal()  # in place of a beat
        job = Signal(TxFrameJob(self._config))
        valid_lanes = Cat(self.count > lane for lane in range(beat_bytes))
        m.d.sync += [
            masked.eq(self.data & _bits(valid_lanes)),
            offset.eq(placement.offset),
            valid.eq(self.strobe),
            self.spilling.eq(self.strobe & self.ends & placement.spills),
            spills.eq(self.spilling),
            fills.eq(~self.last | placement.fills),
            writes.eq(~self.last | placement.fills | self.ends),
            ends.eq(self.ends & ~placement.spills),
        ]
        with m.If(self.strobe):
            m.d.sync += [failed.eq(self.failed), job.eq(self.job)]

        # They move to their lanes. What leaves at the top belongs into the next word, and comes back at the bottom.
        rotated, here = Signal(width), Signal(beat_bytes)
        joins, carries, strobe, last, gives_up = (
            Signal(name=n) for n in ("joins", "carries", "strobe", "last", "gives_up")
        )
        came = Signal()
        moved_job = Signal.like(job)
        m.d.sync += [
            rotated.eq(rotate_up(masked, offset)),
            here.eq(Mux(spills, 0, ~below(offset))),
            joins.eq(spills | (offset != 0)),
            carries.eq(fills),
            came.eq(valid),
            strobe.eq(spills | (valid & writes)),
            last.eq(spills | (valid & ends)),
            gives_up.eq(failed),
            moved_job.eq(job),
        ]

        # `held` has the frame's last bytes, which do not fill a word yet; zero above them.
        held, joined = Signal(width), Signal(width)
        tail, start, following = (Signal(range(self._words), name=n) for n in ("tail", "start", "following"))
        first = Signal(init=1)
        m.d.comb += [
            joined.eq(Mux(joins, held, 0) | (rotated & _bits(here))),
            following.eq(tail + 1),
        ]
        with m.If(came):
            m.d.sync += held.eq(Mux(carries, rotated & ~_bits(here), joined))
        with m.If(strobe):
            m.d.sync += [tail.eq(following), first.eq(last)]
        with m.If(last):
            with m.If(gives_up):
                m.d.sync += tail.eq(start)
            with m.Else():
                m.d.sync += start.eq(following)
        m.d.sync += [
            self.word.strobe.eq(strobe),
            self.word.data.eq(joined),
            self.word.first.eq(first),
            self.word.last.eq(last & ~gives_up),
            self.address.eq(tail),
            self.word_job.eq(moved_job),
        ]
        return m


def _bits(lanes):
    """A mask of bits from one of bytes."""
    return Cat(lane.replicate(8) for lane in lanes)
