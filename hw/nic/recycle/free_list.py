# SPDX-License-Identifier: BSD-2-Clause
"""Free buffers of all pools: first in, first out, or last in, first out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import NicConfig
from hw.nic.recycle.interfaces import BufferEvent, BufferName, count_bits

POP_CYCLES = 2  #: from ``pop`` to ``popped``


class Pop(wiring.Signature):
    """A buffer of a pool is asked for: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "pool": Out(range(config.pools))})


class Popped(wiring.Signature):
    """The answer to a :class:`Pop`: ``strobe`` for one cycle with the pool and, if ``valid``, the id of the buffer that
    has left the list; otherwise there was none."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "valid": Out(1), "buffer": Out(BufferName(config))})


class FreeList(wiring.Component):
    """One memory of ids, with a place for each that there can be: it never overflows while no id is pushed twice.

    One push and one pop a cycle, of one pool or of two. A buffer that is pushed can be popped in the next cycle. With
    ``lifo`` a pool is a stack; of a push and a pop in one cycle the pop takes what lay on top before.

    Members
    -------
    clear : a pool's list becomes empty, and ``lifo`` counts, whatever else happens in that cycle
    lifo : one bit per pool
    push : a buffer becomes free
    pop, popped : the next free buffer of a pool; the answer comes :data:`POP_CYCLES` later
    free : of each pool, how many are free; knows of a cycle's events in the next
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "clear": In(config.pools),
                "lifo": In(config.pools),
                "push": In(BufferEvent(config)),
                "pop": In(Pop(config)),
                "popped": Out(Popped(config)),
                "free": Out(data.ArrayLayout(count_bits(config), config.pools)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        bits = exact_log2(config.pool_buffers)
        m.submodules.ids = ids = memory.Memory(
            shape=bits, depth=config.pools * config.pool_buffers, init=[], attrs={"no_rw_check": 1}
        )
        write, read = ids.write_port(), ids.read_port()
        places = data.ArrayLayout(bits, config.pools)
        first, behind = (Signal(places, name=name) for name in ("first", "behind"))  # first place; after the last
        last = Signal(places, init=[-1] * config.pools)  # the one before `behind`
        stack, some = (Signal(config.pools, name=name) for name in ("stack", "some"))
        push, pop = self.push, self.pop
        found, over = Signal(), Signal()
        m.d.comb += [
            found.eq(pop.strobe & some.bit_select(pop.pool, 1)),
            # Where a pop empties the top of a stack, a push of the same cycle fills it again.
            over.eq(found & stack.bit_select(pop.pool, 1) & (pop.pool == push.buffer.pool)),
            read.addr.eq(Cat(Mux(stack.bit_select(pop.pool, 1), last[pop.pool], first[pop.pool]), pop.pool)),
        ]
        # A cycle late, so that a pop does not read what a push of its own cycle is written over.
        m.d.sync += [
            write.en.eq(push.strobe),
            write.addr.eq(Cat(Mux(over, last[push.buffer.pool], behind[push.buffer.pool]), push.buffer.pool)),
            write.data.eq(push.buffer.id),
        ]
        for pool in range(config.pools):
            pushed, popped, taken = (Signal(name=f"{name}_{pool}") for name in ("pushed", "popped", "taken"))
            m.d.comb += [
                pushed.eq(push.strobe & (push.buffer.pool == pool)),
                popped.eq(found & (pop.pool == pool)),
                taken.eq(popped & stack[pool]),
            ]
            m.d.sync += [
                first[pool].eq(first[pool] + (popped & ~stack[pool])),
                self.free[pool].eq(self.free[pool] + pushed - popped),
                some[pool].eq(pushed | Mux(popped, self.free[pool][1:].any(), some[pool])),
            ]
            for place in (behind, last):
                m.d.sync += place[pool].eq(place[pool] + pushed - taken)
            with m.If(self.clear[pool]):
                m.d.sync += [first[pool].eq(0), behind[pool].eq(0), last[pool].eq(-1)]
                m.d.sync += [self.free[pool].eq(0), some[pool].eq(0), stack[pool].eq(self.lifo[pool])]
        self._answer(m, found, write, read)
        return m

    def _answer(self, m: Module, found: Signal, write: memory.WritePort, read: memory.ReadPort) -> None:
        """Tell what was read, or what was written there in that cycle, which the memory does not show."""
        pop, popped = self.pop, self.popped
        answers = data.StructLayout({"strobe": 1, "valid": 1, "pool": pop.pool.shape(), "place": read.addr.shape()})
        asked = Signal(answers)
        written = Signal(len(write.addr) + 1)
        hit = Signal()
        id_written, id_over, id_read = (
            Signal.like(read.data, name=f"id_{name}") for name in ("written", "over", "read")
        )
        m.d.sync += [
            asked.strobe.eq(pop.strobe),
            asked.valid.eq(found),
            asked.pool.eq(pop.pool),
            asked.place.eq(read.addr),
            written.eq(Cat(write.addr, write.en)),
            id_written.eq(write.data),
            popped.strobe.eq(asked.strobe),
            popped.valid.eq(asked.valid),
            popped.buffer.pool.eq(asked.pool),
            hit.eq(Cat(asked.place, 1) == written),
            id_over.eq(id_written),
            id_read.eq(read.data),
        ]
        m.d.comb += popped.buffer.id.eq(Mux(hit, id_over, id_read))
