# SPDX-License-Identifier: BSD-2-Clause
"""A set-associative cache of translations: what the IOTLB and the caches of non-leaf entries are made of."""

from abc import ABC, abstractmethod
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import CacheConfig
from hw.iommu.interfaces import INVALIDATIONS
from hw.iommu.replacement import Replacement, lowest


class CacheRules(ABC):
    """What the entries of a cache are, and which of them lookups and invalidations mean. All values are combinational.

    Attributes
    ----------
    key : shape of what is looked up
    tag : shape of what an entry is known by
    content : shape of what it holds
    """

    key: ShapeLike
    tag: ShapeLike
    content: ShapeLike

    @abstractmethod
    def set_of(self, tag: Any) -> Value:
        """The set where an entry lies."""

    @abstractmethod
    def matches(self, tag: Any, key: Any) -> Value:
        """Whether an entry answers a lookup of ``key``."""

    @abstractmethod
    def overlaps(self, tag: Any, new: Any) -> Value:
        """Whether a lookup may match both an entry of its set and a new one: then the new one takes its place."""

    @abstractmethod
    def concerns(self, invalidation: Any) -> Value:
        """Whether an invalidation can cover any entry at all. Depends on nothing but the invalidation."""

    @abstractmethod
    def sets(self, invalidation: Any) -> tuple[Value, Value]:
        """First and last set where entries may lie that an invalidation covers."""

    @abstractmethod
    def covers(self, tag: Any, invalidation: Any) -> Value:
        """Whether an invalidation, of those that concern any entry, drops this one."""


class CacheLookup(wiring.Signature):
    """A lookup, seen from who looks: one a cycle. ``set`` is presented with ``strobe`` in cycle *c*, ``key`` in cycle
    *c* + 1 (it may come from another lookup made in *c*), and the answer stands in cycle *c* + 3. ``hit`` is off where
    no lookup was made."""

    def __init__(self, rules: CacheRules, sets: int):
        super().__init__(
            {
                "strobe": Out(1),
                "set": Out(range(sets)),
                "key": Out(rules.key),
                "hit": In(1),
                "content": In(rules.content),
            }
        )


class Cache(wiring.Component):
    """``sets`` x ``ways`` entries in one memory whose rows are sets.

    There is never more than one entry that a lookup matches. What is filled in cycle *c* is found by lookups presented
    from cycle *c* - 1 on: a row takes longer to write, so the newest entry is compared beside its row. A lookup that
    meets an invalidation sees the cache as before or as after; once an invalidation is taken, no lookup presented later
    finds an entry that it covers.

    A fill takes 4 cycles; a strobe in the 3 cycles after one that was taken is dropped, and so is every fill, also one
    under way, while an invalidation is offered. An invalidation sweeps the sets where covered entries may lie, one a
    cycle, and takes 3 cycles more; one that concerns no entry is taken at once. After reset all sets are swept clean,
    which takes ``sets`` + 3 cycles; lookups miss, fills are dropped and invalidations wait until then.

    Parameters
    ----------
    rules : what the entries are
    shape : sets and ways
    replacement : see :class:`hw.iommu.replacement.Replacement`
    lookups : lookup ports

    Ports
    -----
    lookups : In, array of :class:`CacheLookup`
    fill : In
        ``strobe``: put an entry in the place of those it overlaps with, of an invalid one, or of the victim.
    invalidation : In, :data:`hw.iommu.interfaces.INVALIDATIONS`
    dropped : Out
        Entries that an invalidation drops in this cycle.
    clean : Out
        The sweep after reset is over.
    """

    def __init__(self, rules: CacheRules, shape: CacheConfig, *, replacement: str, lookups: int):
        if not isinstance(lookups, int) or lookups < 1:
            raise ValueError(f"A cache must have at least one lookup port, not {lookups!r}")
        self._rules = rules
        self._shape = shape
        self._replacement = replacement
        self._lookups = lookups
        fill = wiring.Signature({"strobe": Out(1), "tag": Out(rules.tag), "content": Out(rules.content)})
        super().__init__(
            {
                "lookups": In(CacheLookup(rules, shape.sets)).array(lookups),
                "fill": In(fill),
                "invalidation": In(INVALIDATIONS),
                "dropped": Out(range(shape.ways + 1)),
                "clean": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sets, ways = self._shape.sets, self._shape.ways
        entry = data.StructLayout({"valid": 1, "tag": self._rules.tag, "content": self._rules.content})
        m.submodules.rows = rows = Memory(shape=data.ArrayLayout(entry, ways), depth=sets, init=[])
        m.submodules.replacement = replacement = Replacement(
            self._replacement, sets=sets, ways=ways, ports=self._lookups
        )
        new = Signal(entry)  # the newest entry; valid while lookups compare rows that may be older
        self._upkeep(m, rows, new, replacement)
        for index, port in enumerate(self.lookups):
            self._lookup(m, port, rows.read_port(), new, replacement.touches[index], f"lookup_{index}")
        return m

    def _lookup(self, m: Module, port: Any, read: Any, new: Any, touch: Any, name: str) -> None:
        """One port's pipeline: the row is read, registered, compared, and the answer registered."""
        ways = self._shape.ways
        made = Signal(2, name=f"{name}_made")
        indices = [Signal(range(self._shape.sets), name=f"{name}_set_{stage}") for stage in range(1, 4)]
        row = Signal.like(read.data, name=f"{name}_row")
        key = Signal(self._rules.key, name=f"{name}_key")
        matching = Signal(ways, name=f"{name}_matching")
        way = Signal(ways, name=f"{name}_way")
        content = Const(0, len(Value.cast(port.content)))
        for each in range(ways):
            m.d.comb += matching[each].eq(row[each].valid & self._rules.matches(row[each].tag, key))
            content |= Mux(matching[each], Value.cast(row[each].content), 0)
        newest = Signal(name=f"{name}_newest")
        m.d.comb += newest.eq(new.valid & self._rules.matches(new.tag, key))
        m.d.comb += [read.addr.eq(port.set), read.en.eq(port.strobe)]
        m.d.sync += [
            made.eq(Cat(port.strobe & self.clean, made)),
            *(later.eq(earlier) for earlier, later in zip((port.set, *indices), indices)),
            port.hit.eq(made[1] & (newest | matching.any())),
        ]
        # Wide registers move only with a lookup: most cycles have none.
        with m.If(made[0]):
            m.d.sync += [row.eq(read.data), Value.cast(key).eq(Value.cast(port.key))]
        with m.If(made[1]):
            m.d.sync += [
                way.eq(matching),
                Value.cast(port.content).eq(Mux(newest, Value.cast(new.content), content)),
            ]
        m.d.comb += [touch.strobe.eq(port.hit), touch.set.eq(indices[2]), touch.way.eq(way)]

    def _upkeep(self, m: Module, rows: Memory, new: Any, replacement: Any) -> None:
        """Fills and sweeps. Both read a row, register it, and write some of its ways back, so they share all but the
        choice of ways."""
        rules, sets, ways = self._rules, self._shape.sets, self._shape.ways
        clean = self.clean
        offered = self.invalidation.valid
        payload = self.invalidation.payload
        read, write = rows.read_port(), rows.write_port(granularity=1)
        row = Signal.like(read.data, name="upkeep_row")
        look, looked, position = (Signal(range(sets), name=name) for name in ("look", "looked", "position"))
        last = Signal(range(sets))
        reading, fetched = Signal(), Signal()
        m.d.comb += [read.addr.eq(look), read.en.eq(reading), replacement.look.eq(look), write.addr.eq(looked)]
        m.d.sync += fetched.eq(reading)
        with m.If(fetched):
            m.d.sync += row.eq(read.data)

        # The ways that a fill writes, and that an invalidation clears.
        valid, overlapping, covered, chosen = (
            Signal(ways, name=name) for name in ("ways_valid", "overlapping", "covered", "chosen")
        )
        for way in range(ways):
            m.d.comb += [
                valid[way].eq(row[way].valid),
                overlapping[way].eq(row[way].valid & rules.overlaps(row[way].tag, new.tag)),
                covered[way].eq(row[way].valid & rules.covers(row[way].tag, payload)),
            ]
        evicts = ~overlapping.any() & valid.all()
        m.d.comb += chosen.eq(
            Mux(evicts, replacement.victim, lowest(Mux(overlapping.any(), overlapping, ~valid), ways))
        )
        begins, ends = rules.sets(payload)

        concerned = Signal()
        m.d.comb += concerned.eq(offered & rules.concerns(payload))
        sweeping, sweep_read, sweep_writes, swept = (
            Signal(name=name) for name in ("sweeping", "sweep_read", "sweep_writes", "swept")
        )
        m.d.sync += [sweep_read.eq(sweeping), sweep_writes.eq(sweep_read)]
        m.d.comb += self.invalidation.ready.eq(~concerned | (clean & swept))

        accepted, filled = Signal(), Signal()
        # One bit for each cycle in which a lookup may compare a row that was read before it was written.
        age = Signal(4)
        m.d.comb += [new.valid.eq(age.any()), reading.eq(accepted | sweeping)]
        m.d.sync += age.eq(Cat(accepted, age))
        behind = Signal(range(sets))
        m.d.sync += [behind.eq(look), looked.eq(behind)]
        with m.FSM(name="upkeep"):
            with m.State("IDLE"):
                m.d.comb += look.eq(rules.set_of(self.fill.tag))
                m.d.sync += [position.eq(Mux(clean, begins, 0)), last.eq(Mux(clean, ends, sets - 1))]
                with m.If(~clean | concerned):
                    m.next = "SWEEP"
                with m.Elif(self.fill.strobe & ~offered):
                    m.d.comb += accepted.eq(1)
                    m.d.sync += [
                        Value.cast(new.tag).eq(Value.cast(self.fill.tag)),
                        Value.cast(new.content).eq(Value.cast(self.fill.content)),
                    ]
                    m.next = "READ"
            with m.State("READ"):
                with m.If(offered):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += filled.eq(~offered)
                m.next = "FILLED"
            with m.State("FILLED"):
                m.next = "IDLE"  # a lookup presented before the row was written still has to be compared with the entry
            with m.State("SWEEP"):
                m.d.comb += [look.eq(position), sweeping.eq(1)]
                m.d.sync += position.eq(position + 1)
                with m.If(position == last):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += swept.eq(sweep_writes & ~sweep_read)
                with m.If(swept):
                    m.d.sync += clean.eq(1)
                    m.next = "IDLE"

        dropping = Signal(ways)
        m.d.comb += [
            dropping.eq(Mux(sweep_writes & clean, covered, 0)),
            replacement.filled.eq(filled),
            replacement.evicted.eq(evicts),
            replacement.way.eq(chosen),
            replacement.clear.eq(sweep_writes & ~clean),
            replacement.clear_set.eq(looked),
            self.dropped.eq(sum(dropping)),
            write.en.eq(Mux(filled, overlapping | chosen, Mux(clean, dropping, sweep_writes.replicate(ways)))),
        ]
        for way in range(ways):
            # Of an entry that is dropped, only the valid bit counts.
            m.d.comb += write.data[way].eq(Cat(filled & chosen[way], new.as_value()[1:]))
