# SPDX-License-Identifier: BSD-2-Clause
"""The free list of a recycle FIFO has a buffer once, or not."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import data

from tests.formal.recycled_buffer import BufferProof, Where


class FreeListProof(BufferProof):
    """Proven of a buffer, and of a place of its pool's list, whichever: it is at its place there if it is free, and if
    it is found at a place, it is free, and that is its own. So a pop gives it only when it is free, and takes it from
    there. A push finds room, and ``free`` is the number of ids that are there.

    About the other buffers and places of the pool it takes for granted what it proves of these, of all cycles before.
    That is sound because these are any: in the first cycle in which it is wrong for others, it is so for these.
    """

    def invariants(self, m: Module) -> None:
        self._list(m)

    def _list(self, m: Module) -> None:
        """Where it is on the list, and how many are there."""
        inside, config, me, where, position = self._inside, self._config, self.me, self.where, self.position
        size = config.pool_buffers
        places = data.ArrayLayout(range(size), config.pools)
        registers = (inside.register("free_list", name) for name in ("first", "behind", "last"))
        first, behind, last = (data.View(places, register)[me.pool] for register in registers)
        stack = inside.register("free_list", "stack").bit_select(me.pool, 1)
        some = inside.register("free_list", "some").bit_select(me.pool, 1)
        free = self.free[me.pool]
        port = inside.write("free_list", "ids")

        def held(place: Value) -> Signal:
            """The id at this place of the list, if its write is still to come too."""
            address, found = Cat(place, me.pool), Signal(range(size))
            row = inside.row(m, address, "free_list", "ids")
            m.d.comb += found.eq(Mux(port._en & (port._addr == address), port._data, row))
            return found

        def listed(place: Value) -> Value:
            return (place - first)[: len(place)] < free

        any_place, next_place = Signal(range(size)), Signal(range(size))
        m.d.comb += [any_place.eq(AnyConst(len(any_place))), next_place.eq(Mux(stack, last, first))]
        push = self.free_list.push
        pops, pushes = Signal(), Signal()
        popped, there = held(next_place), where == Where.FREE
        m.d.comb += [
            pops.eq(self.pop.strobe & (self.pop.pool == me.pool) & (free != 0)),
            pushes.eq(push.strobe & (push.buffer.pool == me.pool)),
            self.popped_now.eq(pops & (popped == me.id)),
        ]
        with m.If(self.pushed):
            m.d.sync += position.eq(Mux(pops & stack, last, behind))
        m.d.comb += [
            Assert(~there | (listed(position) & (held(position) == me.id))),
            Assert(~(listed(any_place) & (held(any_place) == me.id)) | (there & (position == any_place))),
            Assert(~(self.popped_now & (next_place == any_place)) | there),
            Assert((behind - first)[: len(first)] == free[: len(first)]),
            Assert(last == (behind - 1)[: len(behind)]),
            Assert(~stack | (first == 0)),
            Assert(some == (free != 0)),
            Assert(~self.pushed | (free != size)),
            Assert((self.quiet != 0) | (where == Where.NONE)),
        ]

        # All ids that are on the list, as a tree of counts: it is full only if all are there.
        counts: list[Any] = []
        ids = size
        level = 0
        while ids:
            row = [Signal(range(2**level + 1), name=f"count_{level}_{index}") for index in range(ids)]
            for index, count in enumerate(row):
                comes = pushes & (push.buffer.id >> level == index)
                goes = pops & (popped >> level == index)
                m.d.sync += count.eq(Mux(self.wipe, 0, count + comes - goes))
                if counts:
                    m.d.comb += Assert(count == counts[-1][2 * index] + counts[-1][2 * index + 1])
                m.d.comb += Assert(count <= 2**level)
            counts.append(row)
            ids, level = ids // 2, level + 1
        on_list = Cat(counts[0])
        m.d.comb += [Assert(counts[-1][0] == free), Assert(on_list.bit_select(me.id, 1) == there)]

        # What is proven of the watched buffer and place, of those of the cycle before.
        sound = Signal(init=1)
        m.d.sync += sound.eq(
            (~pushes | (~on_list.bit_select(push.buffer.id, 1) & (free != size)))
            & (~pops | on_list.bit_select(popped, 1))
            & (~self.popped_now | (there & (position == next_place)))
        )
        m.d.comb += Assume(sound)

        # Popped, it is on its way until it shows.
        layout = {"strobe": 1, "valid": 1, "pool": range(config.pools), "place": len(port._addr)}
        asked = data.View(data.StructLayout(layout), inside.register("free_list", "asked"))
        written = inside.register("free_list", "written")
        read = Mux(written == Cat(asked.place, 1), inside.register("free_list", "id_written"), self.ids_read[0])
        shown = self.popped
        flies = asked.valid & (asked.pool == me.pool) & (read == me.id)
        shows = shown.strobe & shown.valid & self.mine(shown.buffer)
        m.d.comb += [
            Assert(~asked.valid | asked.strobe),
            Assert(flies + shows == (where == Where.POPPED)),
        ]
