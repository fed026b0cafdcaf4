# SPDX-License-Identifier: BSD-2-Clause
"""Checksums and tags put into frames on their way out."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.tx.layouts import TAG_BYTES, SendBeat

TPID = 0x8100  #: IEEE 802.1Q: the EtherType of a C-VLAN tag
ADDRESS_BYTES = 12


class TxRewrite(wiring.Component):
    """Patch single bytes of frames, then insert tags.

    A tag goes behind the 12 bytes of the addresses; all that follows moves by 4 bytes, up to 4 into a beat of their own
    behind the frame's words. ``count``, ``first`` and ``last`` of a beat are already those of the frame as it is sent.

    Beats keep their order; each takes two cycles, one a cycle, and no pause comes between beats that come without one.

    Members
    -------
    input, output : streams of ``data`` and, as ``tag``, :class:`hw.nic.tx.layouts.SendBeat`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._word = data.StructLayout({"data": config.data_width, "tag": SendBeat(config)})
        super().__init__({"input": In(stream.Signature(self._word)), "output": Out(stream.Signature(self._word))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._config.data_width
        word, beat = self.input.payload.data, self.input.payload.tag

        clear, put = Signal(width), Signal(width)
        clears = [patch.enable.replicate(8) << (patch.lane << 3) for patch in beat.patches]
        puts = [Mux(patch.enable, patch.value, 0) << (patch.lane << 3) for patch in beat.patches]
        m.d.comb += [clear.eq(_any(clears)), put.eq(_any(puts))]

        patched_valid, patched = Signal(), Signal(self._word)
        moves = Signal()
        m.d.comb += [
            moves.eq(~self.output.valid | self.output.ready),
            self.input.ready.eq(~patched_valid | moves),
        ]
        with m.If(self.input.ready):
            m.d.sync += patched_valid.eq(self.input.valid)
            with m.If(self.input.valid):
                m.d.sync += [patched.data.eq(Mux(beat.pad, 0, word & ~clear | put)), patched.tag.eq(beat)]

        carried = Signal(8 * TAG_BYTES)  # the last bytes of the word before
        with m.If(moves):
            m.d.sync += self.output.valid.eq(patched_valid)
            with m.If(patched_valid):
                m.d.sync += [
                    carried.eq(patched.data[-8 * TAG_BYTES :]),
                    self.output.payload.tag.eq(patched.tag),
                    self.output.payload.data.eq(self._tagged(patched, carried)),
                ]
        return m

    def _tagged(self, patched, carried):
        """The word with a tag inserted in or before it; a tag lies in a word's 4-byte groups, never across."""
        beat, words = patched.tag, self._config.beat_bytes // TAG_BYTES
        tag = Cat(Const(TPID >> 8, 8), Const(TPID & 0xFF, 8), beat.vlan[8:], beat.vlan[:8])
        before = [carried, *(patched.data.word_select(group, 8 * TAG_BYTES) for group in range(words - 1))]
        place, in_beat = divmod(ADDRESS_BYTES, self._config.beat_bytes)
        holds, leads = (beat.first, Const(0)) if place == 0 else (beat.second, beat.first)
        groups = []
        for group in range(words):
            same = patched.data.word_select(group, 8 * TAG_BYTES)
            if group < in_beat // TAG_BYTES:
                groups.append(Mux(beat.tags & ~holds & ~leads, before[group], same))
            else:
                moved = Mux(holds, tag, before[group]) if group == in_beat // TAG_BYTES else before[group]
                groups.append(Mux(beat.tags & ~leads, moved, same))
        return Cat(groups)


def _any(values):
    result = values[0]
    for value in values[1:]:
        result |= value
    return result
