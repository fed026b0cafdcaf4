# SPDX-License-Identifier: BSD-2-Clause
"""What the channels hold, wherever it is: the invariants that make :class:`ChannelProof` one by induction."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from amaranth import Array, Const, Module, Mux, Signal, Value
from amaranth.hdl import Assert, Assume
from amaranth.lib import data

from hw.abi.rings import AddressType
from hw.iommu.interfaces import LOOKUP_CYCLES
from hw.iommu.look_ahead import _Kind as Kind
from hw.iommu.read_channel import ReadChannel
from hw.iommu.write_channel import WriteChannel
from tests.formal.inside import Inside
from tests.formal.streams import ID_WIDTH, SMALL, ChannelProof, same_but_page

IDS = range(1 << ID_WIDTH)


def total(values: Any) -> Value:
    """A sum that does not overflow."""
    return sum(values, Value.cast(0))


class HeldProof(ChannelProof):
    """Every access that a channel owes a response is in one place: before its translation, refused, on offer to memory,
    or at memory. What the channel counts are those places."""

    def invariants(self, m: Module, inside: Inside) -> None:
        held, known, refused_place = self._places(m, inside)
        self._look_ahead(m, inside, held, known)
        requests = inside.rows(m, "look_ahead", "requests")
        refusal = inside.component("refusal")
        waits = [held[place] & ~refused_place[place] for place in range(len(requests))]
        out = self.sent

        for index in IDS:
            mine = [here & (request.burst.id == index) for here, request in zip(waits, requests, strict=True)]
            offered = out.valid & (out.payload.id == index)
            refused = refusal.busy & (refusal.id == index)
            m.d.comb += Assert(self.owed[index] == self.at_memory[index] + offered + refused + total(mine))
        for here, request in zip(waits, requests, strict=True):
            m.d.comb += Assert(~(here & same_but_page(request.burst, self.watched)) | self.came)

        # Both counts of each ID.
        under_way = []
        sent, answered = (self._counts(m, inside, name) for name in ("sent", "answered"))
        for index in IDS:
            by_color = [(sent[index][color] - answered[index][color])[: len(sent[index][color])] for color in range(2)]
            under_way.append(by_color)
            offered = out.valid & (out.payload.id == index)
            m.d.comb += Assert(total(by_color) == self.at_memory[index] + offered)
        at_memory = inside.register("outstanding", "at_memory")
        m.d.comb += [
            Assert(at_memory == total(total(by_color) for by_color in under_way)),
            Assert(at_memory <= inside.component("outstanding").limit),
        ]
        for color in range(2):
            m.d.comb += Assert(
                inside.register("outstanding", f"count_{color}")
                == total(by_color[color] for by_color in under_way)
                + total(here & (request.color == color) for here, request in zip(waits, requests, strict=True))
                + (refusal.busy & (refusal.color == color))
            )

        # What the refusal's own proof assumes of its channel.
        cleared = Signal()
        m.d.sync += cleared.eq(refusal.clear & refusal.busy & ~refusal.finish)
        m.d.comb += [Assert(~(refusal.take & refusal.busy)), Assert(~cleared | refusal.clear)]

    def _places(self, m: Module, inside: Inside) -> tuple[Value, Value, Value]:
        """Which places are in use, which of those have an answer, and which one is that of the refused access, if it
        still has one."""
        raise NotImplementedError

    def _counts(self, m: Module, inside: Inside, name: str) -> list[Any]:
        written = inside.register("outstanding", f"{name}_written_0")
        counts = []
        for index, row in enumerate(inside.rows(m, "outstanding", name)):
            count = Signal.like(row, name=f"{name}_{index}")
            with m.If(written[index]):
                m.d.comb += count.eq(row)
            counts.append(count)
        return counts

    def _look_ahead(self, m: Module, inside: Inside, held: Value, known: Value) -> None:
        """A place without an answer is in one first lookup or on the list once. Of the list a part from the oldest on
        is being asked about again, in its order."""
        rows = Array(inside.rows(m, "look_ahead", "waiting"))
        oldest, asked = inside.registers("look_ahead", "$signal")
        end = inside.register("look_ahead", "end")
        stages = [inside.register("look_ahead", f"stage_{cycle}") for cycle in range(LOOKUP_CYCLES)]
        kinds, asked_about = [stage[:2] for stage in stages], [stage[2:] for stage in stages]
        length, begun = (end - oldest)[: len(end)], (asked - oldest)[: len(end)]
        listed = [rows[(oldest + position)[: len(end) - 1]] for position in range(len(held))]
        for place in range(len(held)):
            there = [(position < length) & (listed[position] == place) for position in range(len(held))]
            first = [
                (kind == Kind.FIRST.value) & (about == place) for kind, about in zip(kinds, asked_about, strict=True)
            ]
            m.d.comb += Assert(total(there) + total(first) == (held[place] & ~known[place]))
        unknown = total(held[place] & ~known[place] for place in range(len(held)))
        m.d.comb += [
            Assert(length + total(kind == Kind.FIRST.value for kind in kinds) == unknown),
            Assert(begun <= length),
        ]
        position: Value = Const(0)
        for kind, about in zip(reversed(kinds), reversed(asked_about), strict=True):
            again = kind == Kind.AGAIN.value
            m.d.comb += Assert(~again | (about == Array(listed)[position]))
            position = position + again
        m.d.comb += Assert(begun == position)


class WriteChannelProof(HeldProof):
    """Slots are in the order of arrival. The queue of decisions has one for each burst of W still to come or under way:
    those that pass are of addresses that memory was offered, and one that does not is the refused write's."""

    def _places(self, m: Module, inside: Inside) -> tuple[Value, Value, Value]:
        count = self._channel.config.writes
        oldest, newest = inside.register("$signal"), inside.register("newest")
        held, known = inside.register("held"), inside.register("known")
        places = Signal(count)
        for place in range(count):
            behind = Mux(place < oldest, place + count - oldest, place - oldest)
            m.d.comb += places[place].eq(behind < held)
        m.d.comb += [
            Assert(held <= count),
            Assert(oldest < count),
            Assert(newest == (oldest + held) % count),
            Assert((known & ~places) == 0),
        ]
        self._data(m, inside)
        return places, known, Const(0, count)

    def _data(self, m: Module, inside: Inside) -> None:
        decisions = inside.component("decisions")
        rows, consume = Array(inside.rows(m, "decisions", "storage")), inside.register("decisions", "consume")
        refusal, drained = inside.component("refusal"), inside.register("drained")
        passing, dropped = [], []
        for position in range(decisions.depth):
            here = position < decisions.level
            passes = rows[(consume + position) % decisions.depth]
            passing.append(here & passes)
            dropped.append(here & ~passes)
        at_memory = total(self.at_memory)
        lasts = total(here & last for here, last in self.waiting_beats(m, inside))
        m.d.comb += [
            Assert(self.came_whole == self.ended + (refusal.busy & drained) + lasts),
            Assert(total(passing) + self.ended == at_memory + self.sent.valid),
            Assert(total(dropped) == (refusal.busy & ~drained)),
            Assert(~refusal.busy | (inside.register("refusal", "errors_left") == 1)),
        ]

    def waiting_beats(self, m: Module, inside: Inside) -> list[tuple[Value, Value]]:
        """Whether there is a beat at each place of their queue, from its head on, and whether it is a last one."""
        beats, layout = inside.component("beats"), self.device.w.payload.shape()
        rows, consume = Array(inside.rows(m, "beats", "storage")), inside.register("beats", "consume")
        level = inside.register("beats", "inner_level")
        found = [(beats.r_rdy, data.View(layout, beats.r_data).last)]
        for position in range(beats.depth - 1):
            row = rows[(consume + position) % (beats.depth - 1)]
            found.append((position < level, row[layout["last"].offset]))
        return found


class ReadChannelProof(HeldProof):
    """The reads of an ID are a chain in the order in which they came; what may leave is at its head. Assumed is that
    the device sends no prefetches, which have no place in it; their answers have a proof of their own
    (:mod:`tests.formal.holds`)."""

    def invariants(self, m: Module, inside: Inside) -> None:
        kind = self.device.ar.payload.user.address_type
        m.d.comb += [
            Assume(~self.device.ar.valid | (kind != AddressType.PREFETCH)),
            Assert(inside.component("prefetches", "taken").level == 0),
        ]
        super().invariants(m, inside)

    def _places(self, m: Module, inside: Inside) -> tuple[Value, Value, Value]:
        used, oldest, hit = inside.registers("places", "$signal")
        youngest, walking = inside.register("places", "youngest"), inside.register("places", "walking")
        held, choice = inside.register("places", "held"), inside.register("places", "choice")
        nexts = inside.rows(m, "places", "nexts")
        requests = inside.rows(m, "look_ahead", "requests")
        places, refusal = inside.component("places"), inside.component("refusal")
        count = places.count
        ids = [inside.register("places", f"id_{place}") for place in range(count)]
        refused = Signal(count)
        m.d.comb += refused.eq(refusal.busy << held)

        # Who came before whom.
        before = [Signal(count, name=f"before_{place}") for place in range(count)]
        with m.If(places.enter):
            for place in range(count):
                with m.If(places.place == place):
                    m.d.sync += before[place].eq(used)
                with m.Else():
                    m.d.sync += before[place].eq(before[place] & ~(1 << places.place))

        for place in range(count):
            older, younger, follows = Signal(count), Signal(count), Signal(count)
            for other in range(count):
                same = used[other] & (ids[other] == ids[place])
                m.d.comb += [
                    older[other].eq(same & before[place][other]),
                    younger[other].eq(same & before[other][place]),
                ]
                if other != place:
                    m.d.comb += Assert(~(used[place] & used[other]) | (before[place][other] ^ before[other][place]))
                for third in range(count):
                    m.d.comb += Assert(
                        ~(used[place] & used[other] & used[third] & before[place][other] & before[other][third])
                        | before[place][third]
                    )
            for other in range(count):
                # The next is the first of the younger ones.
                m.d.comb += follows[other].eq(younger[other] & ~(younger & before[other]).any())
            m.d.comb += [
                Assert(~(used[place] & before[place][place])),
                Assert(~used[place] | (oldest[place] == ~older.any())),
                Assert(~used[place] | (youngest[place] == ~younger.any())),
                Assert(~used[place] | youngest[place] | (follows == (1 << nexts[place])[:count])),
                Assert(~used[place] | (ids[place] == requests[place].burst.id)),
            ]
        known = Signal(count)
        waiting = places.waited << choice
        m.d.comb += [
            known.eq(hit | walking | refused),
            Assert((known & ~used) == 0),
            Assert((hit & walking) == 0),
            Assert((refused & (hit | walking)) == 0),
            Assert((refused & ~oldest) == 0),
            Assert(~refusal.busy | (held < count)),
            Assert(~places.waited | (choice < count)),
            Assert((waiting & ~(oldest & (hit | walking))) == 0),
            Assert(~refusal.busy | (refusal.id == Array(ids)[held])),
            Assert(~refusal.busy | (refusal.color == Array(request.color for request in requests)[held])),
        ]
        return used, known, refused


#: By name; inductive in two cycles. As small as channels can be; and with numbers of which counters just hold the sum.
CHANNEL_PROOFS: dict[str, Callable[[], HeldProof]] = {
    "write_channel": lambda: WriteChannelProof(WriteChannel(SMALL, id_width=ID_WIDTH)),
    "write_channel_full": lambda: WriteChannelProof(WriteChannel(replace(SMALL, outstanding=1), id_width=ID_WIDTH)),
    "read_channel": lambda: ReadChannelProof(ReadChannel(SMALL, id_width=ID_WIDTH)),
}
