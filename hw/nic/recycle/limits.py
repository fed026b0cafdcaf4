# SPDX-License-Identifier: BSD-2-Clause
"""The feedback loop: a limit to the buffers of each pool that are not free, and a circuit breaker."""

from amaranth import Module, Mux, ResetInserter, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.recycle.interfaces import PoolBounds, PoolEvent, PoolWrite, count_bits
from hw.nic.recycle.pool_counter import SINGLE_EVENTS, PoolCounter, PoolCounts, PoolEvents

CLOSINGS_BITS = 16


class LoopControl(data.Struct):
    """Register LOOP."""

    track: 1
    close: 1
    open: 1
    reserved: 5
    window: 5
    reserved_high: 19
    slack: 16


class LoopStatus(data.StructLayout):
    """``limit`` in force, 0: none, and ``closings`` of the loop, modulo 65,536. Register LOOP_STATUS."""

    def __init__(self, config: NicConfig):
        super().__init__({"limit": count_bits(config), "closings": CLOSINGS_BITS})


class PoolLoop(wiring.Component):
    """Circuit breaker of one pool.

    ``closed`` from the cycle after a frame was ``dropped`` for the limit, or after the first of ``held``, on. It opens
    only when the pool is visited: when LOOP.open was written since the visit before, or few enough are outstanding
    (``low``), and it is not ``held``. A frame that is dropped between that visit and the next does not close it, as it
    may have been refused while the loop was closed still: no frame that was closes it again, if its drop is told of
    less than :data:`hw.nic.recycle.interfaces.VISIT_CYCLES` later. Nor does the loop close more than once from one
    visit to the next.

    Ports
    -----
    held : In
        LOOP.close is set.
    reopen, dropped, visited, low : In
        For one cycle; ``low`` in that of ``visited``.
    closed, closings : Out
    """

    held: In(1)
    reopen: In(1)
    dropped: In(1)
    visited: In(1)
    low: In(1)
    closed: Out(1)
    closings: Out(CLOSINGS_BITS)

    def elaborate(self, platform):
        m = Module()
        asked, opened = Signal(), Signal()
        opens, closes = Signal(), Signal()
        m.d.comb += [
            opens.eq(self.closed & self.visited & ~self.held & (self.low | asked)),
            closes.eq(~self.closed & (self.held | (self.dropped & ~opened))),
        ]
        m.d.sync += [
            self.closed.eq((self.closed & ~opens) | closes),
            self.closings.eq(self.closings + closes),
        ]
        with m.If(self.visited):
            m.d.sync += [asked.eq(0), opened.eq(opens)]
        with m.If(self.reopen & self.closed):
            m.d.sync += asked.eq(1)
        return m


class PoolLimits(wiring.Component):
    """Buffers of each pool that are not free, their limit, and the loop. Listens to LOOP.close and LOOP.open.

    **The limit is exact.** With a grant in a cycle only in which the pool is ``open``, no more buffers are outstanding
    and ahead together than the limit in force: ``open`` knows of a grant in the next cycle, of what came back four
    cycles later at most. It comes from registers by one level of logic. A limit below what is out takes nothing
    away; no buffer is granted until so many are back.

    **The loop** closes two cycles after a frame was ``dropped`` for the limit, or two after LOOP.close was written.
    The limit and the resume level in force come from outside (``bounds``), and with them the pool's turn to open: three
    cycles after that, no more being outstanding than the resume level, and fewer than the limit. So a resume level at
    or above the limit means that one has come back; and a loop of which nothing is outstanding opens always, but for
    LOOP.close. While it is closed no buffer is granted, and frames do not get those that queues hold.

    Whatever events come in a cycle, of whatever pools, are counted.

    Ports
    -----
    write : In
        Accepted register writes.
    granted : In
        The supply takes a buffer of an ``open`` pool from its free list, or software takes one of any pool. From now on
        it is ahead.
    missed : In
        The list was empty: it was no buffer.
    unused : In
        A buffer that was ahead goes back to the list.
    given : In
        ``count`` buffers that were ahead are outstanding: a frame has them. (Of all other events ``count`` is not
        looked at: they are of one buffer.)
    taken : In
        One that was granted is outstanding: software has it.
    handed_back, returned, removed : In
        One that was outstanding is not any more: a claim was granted, TX has sent it, software has removed it.
    dropped : In
        An RX frame was dropped with POOL_LIMIT.
    clear : In
        Bit per pool, for one cycle: counts and closings are zero, the loop is open, and no buffer is granted until
        ``bounds`` tell of the limit again. There must be no event of the pool in that cycle and the two before.
    bounds : In
        Limit and resume level in force of each pool in turn. The limit of a visit counts from the third cycle after.
    open : Out
        Bit per pool: a buffer may be granted.
    limited : Out
        Bit per pool: none may, because of the limit or the loop: not ``open``.
    refused : Out
        Bit per pool: the loop is closed. STATUS.closed.
    counts, loop_status : Out
        Of each pool, three cycles after the events, all of the same.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        pools = config.pools
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                **{name: In(PoolEvent(config)) for name in SINGLE_EVENTS},
                "given": In(PoolEvent(config, config.fetch_depth)),
                "dropped": In(PoolEvent(config)),
                "clear": In(pools),
                "bounds": In(PoolBounds(config)),
                "open": Out(pools),
                "limited": Out(pools),
                "refused": Out(pools),
                "counts": Out(data.ArrayLayout(PoolCounts(config), pools)),
                "loop_status": Out(data.ArrayLayout(LoopStatus(config), pools)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        events = Signal(data.ArrayLayout(PoolEvents(config), config.pools))
        dropped, held = Signal(config.pools), Signal(config.pools)
        control = Signal(LoopControl)
        m.d.comb += control.eq(self.write.data)
        visit, visited = self._visit(m)
        for p in range(config.pools):
            counter, loop = PoolCounter(config), PoolLoop()
            m.submodules[f"counter_{p}"] = ResetInserter(self.clear[p])(counter)
            m.submodules[f"loop_{p}"] = ResetInserter(self.clear[p])(loop)
            here = {name: self._here(name, p) for name in (*SINGLE_EVENTS, "given", "dropped")}
            m.d.sync += [events[p][name].eq(here[name]) for name in SINGLE_EVENTS]
            m.d.sync += [
                events[p].given.eq(Mux(here["given"], self.given.count, 0)),
                dropped[p].eq(here["dropped"]),
            ]
            written = self.write.at.loop & (self.write.pool == p)
            with m.If(written):
                m.d.sync += held[p].eq(control.close)
            m.d.comb += [
                counter.granted.eq(here["granted"]),
                counter.events.eq(events[p]),
                counter.update.eq(visited[p]),
                counter.limit.eq(visit.limit),
                counter.gain.eq(visit.gain),
                loop.held.eq(held[p]),
                loop.reopen.eq(written & control.open),
                loop.dropped.eq(dropped[p]),
                loop.visited.eq(visited[p]),
                loop.low.eq(visit.low),
                self.open[p].eq(counter.room & ~loop.closed),
                self.refused[p].eq(loop.closed),
                self.counts[p].eq(counter.counts),
                self.loop_status[p].limit.eq(counter.limit_in_force),
                self.loop_status[p].closings.eq(loop.closings),
            ]
        m.d.comb += self.limited.eq(~self.open)
        return m

    def _here(self, name, pool):
        event = getattr(self, name)
        return event.strobe & (event.pool == pool)

    def _visit(self, m):
        """What a visit finds, two cycles after ``bounds``, and whose it is: one bit per pool. None that has looked
        before a ``clear`` counts after it."""
        bounds = self.bounds
        bits = len(bounds.limit)
        first = Signal(data.StructLayout({"limit": bits, "resume": bits, "outstanding": bits, "before": bits}))
        found = Signal(data.StructLayout({"limit": bits, "gain": signed(bits + 1), "low": 1}))
        strobe, pool, visited = Signal(), Signal.like(bounds.pool), Signal(self._config.pools)
        fewer = (first.limit == 0) | (first.outstanding < first.limit)
        m.d.sync += [
            strobe.eq(bounds.strobe & ~self.clear.bit_select(bounds.pool, 1)),
            pool.eq(bounds.pool),
            first.limit.eq(bounds.limit),
            first.resume.eq(bounds.resume),
            first.outstanding.eq(self.counts[bounds.pool].outstanding),
            first.before.eq(self.loop_status[bounds.pool].limit),
            visited.eq((strobe << pool) & ~self.clear),
            found.limit.eq(first.limit),
            found.gain.eq(first.limit - first.before - 1),
            found.low.eq((first.outstanding <= first.resume) & fewer),
        ]
        return found, visited
