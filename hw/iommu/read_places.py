# SPDX-License-Identifier: BSD-2-Clause
"""Which reads are held, which is the oldest of its ID, and which may leave next."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import IommuConfig
from hw.iommu.interfaces import Outcome, TranslationAnswer


class ReadPlaces(wiring.Component):
    """Places of reads between acceptance and departure.

    The reads of an ID are a chain: each place knows the next younger one, and whether it is the oldest. Only the oldest
    may leave: once its answer was HIT, or WALK and the walk is finished. Those that may are chosen in turn, one a
    cycle, in the cycle after they may; so is the next of a chain, in the cycle after the one before. In a cycle without
    one that has ``waited``, a HIT for the oldest of its ID is chosen as it comes.

    Parameters
    ----------
    config : see :class:`hw.config.IommuConfig`
    count : places

    Ports
    -----
    room, place : a place is free: this one
    enter, id : a read takes it
    pending : a place has a read of this ``id``
    known, known_place, answer, finished : as of :class:`hw.iommu.look_ahead.LookAhead`
    valid, chosen, waited : this one may leave; stays while ``waited``, otherwise for this cycle only
    leave : it does
    put_back : the others' turn first
    hold : it stays the oldest of its ID, but is not chosen any more, until it leaves by ``leave_held``; one at a time
    """

    def __init__(self, config: IommuConfig, count: int, *, id_width: int):
        self.config = config
        self.count = count
        self.id_width = id_width
        places = range(count)
        super().__init__(
            {
                "room": Out(1),
                "place": Out(places),
                "enter": In(1),
                "id": In(id_width),
                "pending": Out(1),
                "known": In(1),
                "known_place": In(places),
                "answer": In(TranslationAnswer(config)),
                "finished": In(config.walks),
                "valid": Out(1),
                "chosen": Out(places),
                "waited": Out(1),
                "leave": In(1),
                "put_back": In(1),
                "hold": In(1),
                "leave_held": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = self.count
        used, oldest, youngest = Signal(count), Signal(count), Signal(count)
        hit, walking = Signal(count), Signal(count)  # how it may leave
        ids = [Signal(self.id_width, name=f"id_{place}") for place in range(count)]
        walks = [Signal(range(self.config.walks), name=f"walk_{place}") for place in range(count)]
        m.submodules.nexts = nexts = Memory(shape=range(count), depth=count, init=[])
        next_write = nexts.write_port()

        # Up to two leave in one cycle, of different IDs.
        held = Signal(range(count))
        leaving = Signal(count)
        older = Signal(count)
        same = Signal(count)
        m.d.comb += [older.eq(same & ~leaving), self.pending.eq(same.any())]
        for place in range(count):
            m.d.comb += [
                leaving[place].eq((self.leave & (self.chosen == place)) | (self.leave_held & (held == place))),
                same[place].eq(used[place] & youngest[place] & (ids[place] == self.id)),
            ]
        successors = Signal(count)
        for strobe, place in ((self.leave, self.chosen), (self.leave_held, held)):
            port = nexts.read_port(domain="comb")
            m.d.comb += port.addr.eq(place)
            with m.If(strobe & ~youngest.bit_select(place, 1)):
                m.d.comb += successors.bit_select(port.data, 1).eq(1)

        entering = Signal(count)
        m.d.comb += [
            self.room.eq(~used.all()),
            self.place.eq(_first(m, "place", ~used)),
            entering.eq(self.enter << self.place),
            next_write.addr.eq(_first(m, "older", older)),
            next_write.data.eq(self.place),
            next_write.en.eq(self.enter & older.any()),
        ]
        m.d.sync += [
            used.eq((used & ~leaving) | entering),
            youngest.eq((youngest & ~Mux(self.enter, older, 0)) | entering),
            oldest.eq((oldest & ~entering) | successors | Mux(older.any(), 0, entering)),
        ]

        known, gone = Signal(count), Signal(count)
        is_hit = self.answer.outcome == Outcome.HIT
        m.d.comb += [
            known.eq(self.known << self.known_place),
            gone.eq((self.leave | self.hold) << self.chosen),
        ]
        m.d.sync += [
            hit.eq((hit | Mux(is_hit, known, 0)) & ~gone),
            walking.eq((walking | Mux(is_hit, 0, known)) & ~gone),
        ]
        for place in range(count):
            with m.If(entering[place]):
                m.d.sync += ids[place].eq(self.id)
            with m.If(known[place]):
                m.d.sync += walks[place].eq(self.answer.walk)
        with m.If(self.hold):
            m.d.sync += held.eq(self.chosen)

        ready = hit | (walking & Cat(self.finished.bit_select(walk, 1) for walk in walks))
        self._choose(m, ready, oldest, youngest, nexts.read_port(domain="comb"))
        return m

    def _choose(self, m: Module, ready: Value, oldest: Signal, youngest: Signal, next_read: Any) -> None:
        count = self.count
        choice = Signal(range(count))
        candidates, later, following = Signal(count), Signal(count), Signal(count)
        behind = Signal(count)  # the places after the last one chosen
        pick = Signal(range(count))
        m.d.comb += next_read.addr.eq(choice)
        with m.If(self.waited & ~youngest.bit_select(choice, 1)):
            m.d.comb += following.eq(1 << next_read.data)
        m.d.comb += [
            candidates.eq(ready & (oldest | following) & ~(self.waited << choice)),
            later.eq(candidates & behind),
            pick.eq(Mux(later.any(), _first(m, "later", later), _first(m, "candidate", candidates))),
            self.chosen.eq(Mux(self.waited, choice, self.known_place)),
            self.valid.eq(
                self.waited
                | (self.known & (self.answer.outcome == Outcome.HIT) & oldest.bit_select(self.known_place, 1))
            ),
        ]
        with m.If(~self.waited | self.leave):
            m.d.sync += self.waited.eq(candidates.any())
            with m.If(candidates.any()):
                m.d.sync += [choice.eq(pick), behind.eq(-2 << pick)]
        with m.Elif(self.hold | self.put_back):
            # The next of its chain must not follow: a cycle passes without a choice.
            m.d.sync += self.waited.eq(0)


def _first(m: Module, name: str, bits: Value) -> Signal:
    """Index of the lowest bit that is set; 0 if none is."""
    index = Signal(range(len(bits)), name=f"first_{name}")
    for position in reversed(range(len(bits))):
        with m.If(bits[position]):
            m.d.comb += index.eq(position)
    return index
