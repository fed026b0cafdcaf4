# SPDX-License-Identifier: BSD-2-Clause
"""From words of the packet buffer to the beats of transfers."""

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import NicConfig
from hw.nic.interfaces import Bytes

_FINE_BITS = 3  #: a cycle shifts by as many lanes as these can say; a further one by whole multiples


class WriteBeat(data.StructLayout):
    """How a beat of a transfer is cut from the packet buffer's words.

    Members
    -------
    count, last : of the beat, see :class:`hw.nic.interfaces.Bytes`
    offset : lane of its first byte in the word where that lies
    fetch : it needs a word that no beat before it needed: the only one if ``offset`` is 0, else the second
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {"count": range(config.beat_bytes + 1), "last": 1, "offset": range(config.beat_bytes), "fetch": 1},
        )


class RxAligner(wiring.Component):
    """Shift each beat of a transfer to lane 0.

    One beat a cycle; each comes out :attr:`latency` cycles after its word. While the output stalls, so does everything,
    in the same cycle.

    Members
    -------
    response : stream of words, tagged with :class:`WriteBeat`; where ``fetch`` is off the word does not count
    output : stream of :class:`hw.nic.interfaces.Bytes`, from registers
    """

    def __init__(self, config: NicConfig):
        self._config = config
        response = data.StructLayout({"data": config.data_width, "tag": WriteBeat(config)})
        super().__init__({"response": In(stream.Signature(response)), "output": Out(stream.Signature(Bytes(config)))})

    @property
    def latency(self) -> int:
        """Cycles from a word to its beat: 2 at 64 bits, else 3."""
        return 2 if exact_log2(self._config.beat_bytes) <= _FINE_BITS else 3

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._config.data_width
        word, tag = self.response.payload.data, self.response.payload.tag
        fine, coarse = tag.offset[:_FINE_BITS], tag.offset[_FINE_BITS:]
        # The word in which the beat begins, and the last one fetched: where it ends.
        low, high = Signal(width), Signal(width)
        moves = Signal()
        m.d.comb += [
            moves.eq(~self.output.valid | self.output.ready),
            self.response.ready.eq(moves),
        ]
        with m.If(moves & self.response.valid):
            m.d.sync += low.eq(Mux(tag.offset == 0, word, high))
            with m.If(tag.fetch):
                m.d.sync += high.eq(word)
        about = {"count": tag.count, "last": tag.last, "fine": fine, "coarse": coarse}
        beat = self._stage(m, "paired", moves, valid=self.response.valid, **about)
        beat.bytes = Cat(low, high)
        if len(coarse):
            lanes = beat.bytes.bit_select(beat.coarse << (3 + _FINE_BITS), width + (8 << _FINE_BITS) - 8)
            about = {"count": beat.count, "last": beat.last, "fine": beat.fine, "bytes": lanes}
            beat = self._stage(m, "coarse", moves, valid=beat.valid, **about)

        output = self.output
        with m.If(moves):
            m.d.sync += [
                output.valid.eq(beat.valid),
                output.payload.data.eq(beat.bytes.bit_select(beat.fine << 3, width)),
                output.payload.count.eq(beat.count),
                output.payload.last.eq(beat.last),
            ]
        return m

    def _stage(self, m: Module, name: str, moves: Value, **values: Any) -> SimpleNamespace:
        registers = {key: Signal.like(value, name=f"{name}_{key}") for key, value in values.items()}
        with m.If(moves):
            m.d.sync += [register.eq(values[key]) for key, register in registers.items()]
        return SimpleNamespace(**registers)
