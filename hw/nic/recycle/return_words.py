# SPDX-License-Identifier: BSD-2-Clause
"""The return registers: software hands back up to four buffers with one write."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import IDS_PER_RETURN, RecycleError, RecycleSource
from hw.abi.rings import BUFFER_ID_BITS
from hw.bus.fifo import StreamFifo
from hw.config import NicConfig
from hw.nic.recycle.interfaces import PoolWrite, claim_stream

WORDS = 16


class ReturnWord(data.StructLayout):
    """A write to a return register: the first ``more`` + 1 of ``ids`` come back to the ``pool``."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "pool": range(config.pools),
                "more": range(IDS_PER_RETURN),
                "ids": data.ArrayLayout(BUFFER_ID_BITS, IDS_PER_RETURN),
            }
        )


class ReturnWords(wiring.Component):
    """Claims what is handed back by the registers RETURN1 to RETURN4, in the order of the writes and from the lowest id
    of each on.

    The first id of a word is claimed three cycles after its write, or behind those that wait; then one a cycle, word
    after word. There is no judgement here: the pool may be in any state, and an id any.

    Ports
    -----
    write : In
        Accepted register writes.
    full : Out
        :data:`WORDS` - 1 words wait, or one more: of each some id is not claimed. It tells of a write in the next
        cycle, and there is room for one that was let through before; a further one would be lost.
    claims : Out, stream
        Of source RETURN.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__({"write": In(PoolWrite(config)), "full": Out(1), "claims": Out(claim_stream(config))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = StreamFifo(ReturnWord(self._config), WORDS)
        at = self.write.at
        writes = [at[f"return{more + 1}"] for more in range(IDS_PER_RETURN)]
        arrived = Signal()
        m.d.comb += [
            arrived.eq(Cat(writes).any()),
            fifo.input.valid.eq(arrived),
            fifo.input.payload.pool.eq(self.write.pool),
            fifo.input.payload.ids.eq(self.write.data),
        ]
        for more, written in enumerate(writes):
            with m.If(written):
                m.d.comb += fifo.input.payload.more.eq(more)

        word, valid = Signal(ReturnWord(self._config)), Signal()
        last, done = Signal(), Signal()
        m.d.comb += [
            self.claims.valid.eq(valid),
            self.claims.payload.pool.eq(word.pool),
            self.claims.payload.id.eq(word.ids[0]),
            self.claims.payload.source.eq(RecycleSource.RETURN),
            self.claims.payload.error.eq(RecycleError.NONE),
            last.eq(word.more == 0),
            done.eq(valid & self.claims.ready & last),
            fifo.output.ready.eq(~valid | done),
        ]
        with m.If(fifo.output.ready):
            m.d.sync += [word.eq(fifo.output.payload), valid.eq(fifo.output.valid)]
        with m.Elif(self.claims.ready):
            m.d.sync += [word.ids.eq(word.ids.as_value() >> BUFFER_ID_BITS), word.more.eq(word.more - 1)]

        waiting = Signal(range(WORDS + 1))
        m.d.sync += waiting.eq(waiting + arrived - done)
        m.d.comb += self.full.eq(waiting >= WORDS - 1)
        return m
