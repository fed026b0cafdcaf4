# SPDX-License-Identifier: BSD-2-Clause
"""Bursts of W reach memory with their addresses, and as long as these say."""

from collections.abc import Callable
from typing import Any

from amaranth import Array, Module, Mux, Signal
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume

from hw.iommu.write_channel import WriteChannel
from tests.formal.channels import WriteChannelProof
from tests.formal.inside import Inside
from tests.formal.streams import ID_WIDTH, SMALL

NUMBER_BITS = 6  #: far more than the channel holds


class WriteDataProof(WriteChannelProof):
    """The device's writes are numbered as their addresses come, and its bursts of W as they come. One number is
    watched, whichever it is, and assumed is of the device that the burst has as many beats as the address says, the
    last of them marked so.

    Proven of that number: if its address is offered to memory, so is its burst of W, with these beats; if not, nothing
    of it. As both go in the order of their numbers, W matches AW at memory as it does at the device.
    """

    def invariants(self, m: Module, inside: Inside) -> None:
        super().invariants(m, inside)
        decisions, beats = inside.component("decisions"), inside.component("beats")
        device, memory = self.device, self.memory
        number, length = Signal(NUMBER_BITS), Signal(8)
        m.d.comb += [number.eq(AnyConst(NUMBER_BITS)), length.eq(AnyConst(8))]

        # Numbers of the next address to come and to leave its slot, and of the next burst of W to come and to end.
        asked, left, came, ended = (Signal(NUMBER_BITS, name=name) for name in ("asked", "left", "came", "ended"))
        over = Signal()  # the watched one has ended: its number means another one from now on
        came_beats, ended_beats = Signal(8), Signal(8)
        leaves, ends, beat = Signal(), Signal(), Signal()
        m.d.comb += [
            leaves.eq(decisions.w_en & decisions.w_rdy),
            ends.eq(decisions.r_en & decisions.r_rdy),
            beat.eq(beats.r_en & beats.r_rdy),
        ]
        m.d.sync += [
            asked.eq(asked + (device.aw.valid & device.aw.ready)),
            left.eq(left + leaves),
            ended.eq(ended + ends),
            over.eq(over | (ends & (ended == number))),
        ]
        with m.If(device.w.valid & device.w.ready):
            m.d.sync += [
                came.eq(came + device.w.payload.last),
                came_beats.eq(Mux(device.w.payload.last, 0, came_beats + 1)),
            ]
        with m.If(beat):
            m.d.sync += ended_beats.eq(Mux(ends, 0, ended_beats + 1))
        m.d.comb += [
            Assume(over | ~device.aw.valid | (asked != number) | (device.aw.payload.len == length)),
            Assume(over | ~device.w.valid | (came != number) | (device.w.payload.last == (came_beats == length))),
        ]

        sent, offered = Signal(), Signal()  # the watched one goes to memory; its address is on offer there
        with m.If(leaves):
            with m.If(left == number):
                m.d.sync += sent.eq(decisions.w_data)
            with m.If(decisions.w_data):
                m.d.sync += offered.eq((left == number) & ~over)
        m.d.comb += [
            Assert(~(memory.aw.valid & offered) | (memory.aw.payload.len == length)),
            Assert(over | ~memory.w.valid | (ended != number) | sent),
            Assert(over | ~memory.w.valid | (ended != number) | (memory.w.payload.last == (ended_beats == length))),
        ]

        # Each place knows its number by those before it.
        requests = inside.rows(m, "look_ahead", "requests")
        oldest, held = inside.register("$signal"), inside.register("held")
        for position in range(len(requests)):
            request = Array(each.burst.len for each in requests)[(oldest + position) % len(requests)]
            here = (position < held) & ((left + position)[:NUMBER_BITS] == number)
            m.d.comb += Assert(over | ~here | (request == length))
        rows, consume = Array(inside.rows(m, "decisions", "storage")), inside.register("decisions", "consume")
        for position in range(decisions.depth):
            here = (position < decisions.level) & ((ended + position)[:NUMBER_BITS] == number)
            m.d.comb += Assert(over | ~here | (rows[(consume + position) % decisions.depth] == sent))
        place: Any = ended
        index: Any = ended_beats
        for here, last in self.waiting_beats(m, inside):
            m.d.comb += Assert(over | ~here | (place != number) | (last == (index == length)))
            following, counted = Signal(NUMBER_BITS), Signal(8)
            m.d.comb += [
                following.eq(place + (here & last)),
                counted.eq(Mux(here, Mux(last, 0, index + 1), index)),
            ]
            place, index = following, counted
        m.d.comb += [
            Assert(asked == (left + held)[:NUMBER_BITS]),
            Assert(left == (ended + decisions.level)[:NUMBER_BITS]),
            Assert(came == place),
            Assert(came_beats == index),
        ]


#: By name; inductive in two cycles.
WRITE_DATA_PROOFS: dict[str, Callable[[], WriteDataProof]] = {
    "write_data": lambda: WriteDataProof(WriteChannel(SMALL, id_width=ID_WIDTH)),
}
