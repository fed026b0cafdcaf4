# SPDX-License-Identifier: BSD-2-Clause
"""Limits in force: those that registers say, or such as follow the steady state."""

from itertools import pairwise

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import NicConfig
from hw.nic.recycle.interfaces import VISIT_CYCLES, PoolBounds, PoolWrite, at_most, count_bits
from hw.nic.recycle.limits import LoopControl
from hw.nic.recycle.pool_counter import PoolCounts
from hw.nic.register_set import pool_registers

CALM_WINDOWS = 8
FRACTION_BITS = 3
MIN_WINDOW, MAX_WINDOW = 8, 31


class Limit(data.Struct):
    """Register LIMIT."""

    limit: 32
    resume: 32


class _Tracking(data.StructLayout):
    """What is known of a pool's steady state; averages in eighths of a buffer.

    Members
    -------
    settled : there is an average
    calm : windows in a row before this one in which the loop was open; counts to CALM_WINDOWS - 1
    clean : this window began with an open loop, which has not closed since
    least : outstanding in this window
    average, met : the average, and what it was when a window last did not raise it
    """

    def __init__(self, config: NicConfig):
        count = count_bits(config)
        average = count + FRACTION_BITS
        super().__init__(
            {
                "settled": 1,
                "calm": range(CALM_WINDOWS),
                "clean": 1,
                "least": count,
                "average": average,
                "met": average,
            }
        )


class _Visit(data.StructLayout):
    """A pool on its way through the unit: its state, registers, and what was found of it."""

    def __init__(self, config: NicConfig):
        count = count_bits(config)
        super().__init__(
            {
                "valid": 1,
                "pool": range(config.pools),
                "state": _Tracking(config),
                "limit": count,
                "resume": count,
                "track": 1,
                "slack": 16,
                "outstanding": count,
                "tripped": 1,
                "ended": 1,
            }
        )


class SteadyState(wiring.Component):
    """Says what limit and resume level are in force, pool after pool. Listens to LIMIT and LOOP.

    While LOOP.track is 0 they are as LIMIT says. A number that no pool can reach counts as the greatest that
    :class:`PoolBounds` can tell of.

    **Tracking.** Time goes in windows of 1 << LOOP.window cycles (at least 1 << 8). Of each the *least* number
    outstanding counts, as seen at the pool's visits: what is always out is the steady state, what comes and goes is
    not. A window is *calm* if the loop was open all through it. One that is, like the seven before it, moves the
    average by an eighth of what it lies beside it; the first such window's least is the first average. Then in force
    is ::

        limit = average + average / 2 + slack, at least 1, at most LIMIT.limit where that is not 0
        resume = average, or slack / 2 where that is more

    and until there is an average, what LIMIT says. (With the average alone, a single buffer that somebody keeps would
    hold the loop of a pool that is hardly used closed.)

    **No creeping.** In overload, outstanding goes from the resume level up to the limit, where the loop closes, and
    down again. Windows on the way up are calm, and their least is above the average. That they must be eight in a row
    keeps them out where the way up is shorter. And as soon as the loop closes, the average becomes again what it was
    when it was last *met*: when a window last left it as it was, or moved it down. On the way up none does. So however
    many times the loop closes, the average is one that calm windows have met. What takes longer than some eight windows
    to fill what the limit leaves cannot be told from a load that rises gently: it is followed, up to LIMIT.limit.

    Each pool is visited once every :data:`VISIT_CYCLES`, and its ``bounds`` come nine cycles after what they were found
    by: so within 32 cycles after a write to LIMIT or LOOP :class:`hw.nic.recycle.limits.PoolLimits` has put in force
    what it says.

    Ports
    -----
    write : In
        Accepted register writes.
    counts : In
        Of each pool; only ``outstanding`` is looked at.
    refused : In
        Bit per pool: its loop is closed. Every cycle of it counts.
    clear : In
        Bit per pool, for one cycle: its average is forgotten.
    bounds : Out
        Of one pool after another.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                "counts": In(data.ArrayLayout(PoolCounts(config), config.pools)),
                "refused": In(config.pools),
                "clear": In(config.pools),
                "bounds": Out(PoolBounds(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        visits = [Signal(_Visit(config), name=f"visit_{n}") for n in range(8)]
        m.d.sync += [later.eq(visit) for visit, later in pairwise(visits)]
        m.submodules.tracking = tracking = Memory(shape=_Tracking(config), depth=config.pools, init=[])
        self._look(m, tracking.read_port(domain="comb"), *visits[:2])
        difference = self._measure(m, *visits[:3])
        self._follow(m, difference, *visits[3:5])
        remember = tracking.write_port()
        m.d.comb += [
            remember.en.eq(visits[4].valid),
            remember.addr.eq(visits[4].pool),
            remember.data.eq(visits[4].state),
        ]
        self._bound(m, *visits[4:])
        return m

    def _look(self, m, memory, visit, later):
        """At the pool whose turn it is."""
        pools = self._config.pools
        time = Signal(MAX_WINDOW)
        turn = time[: exact_log2(VISIT_CYCLES)]
        looked, tripped, forgotten = Signal(pools), Signal(pools), Signal(pools, init=-1)
        m.d.comb += [memory.addr.eq(turn), looked.eq(1 << turn)]
        limit, control = self._registers(m, memory.addr)
        m.d.sync += [
            time.eq(time + 1),
            tripped.eq((tripped & ~looked) | self.refused),
            forgotten.eq((forgotten & ~looked) | self.clear),
            visit.valid.eq(turn < pools),
            visit.pool.eq(turn),
            visit.state.eq(memory.data),
            visit.limit.eq(limit.limit),
            visit.resume.eq(limit.resume),
            visit.track.eq(control.track & ~forgotten.bit_select(turn, 1)),
            visit.slack.eq(control.slack),
            visit.outstanding.eq(self.counts[memory.addr].outstanding),
            visit.tripped.eq(tripped.bit_select(turn, 1)),
        ]
        # All windows of a length end in the round of visits that begins with a multiple of it.
        window, ends = Signal.like(control.window), Signal(MAX_WINDOW + 1)
        m.d.sync += [
            window.eq(control.window),
            ends.eq(Cat(~time[len(turn) : max(length, MIN_WINDOW)].any() for length in range(len(ends)))),
            later.ended.eq(ends.bit_select(window, 1)),
        ]

    def _registers(self, m, pool):
        """LIMIT and LOOP of a pool, as far as they count here."""
        bits = count_bits(self._config)
        registers = pool_registers(self._config)
        found = []
        for name, layout, kept in (
            ("limit", Limit, {"limit": bits, "resume": bits}),
            ("loop", LoopControl, {"track": 1, "window": 5, "slack": 16}),
        ):
            shape = data.StructLayout(kept)
            m.submodules[name] = memory = Memory(shape=shape, depth=self._config.pools, init=[])
            write, read = memory.write_port(), memory.read_port(domain="comb")
            written, word = Signal(self._config.pools, name=f"{name}_written"), Signal(layout, name=f"{name}_word")
            m.d.comb += [
                word.eq(self.write.data),
                write.en.eq(self.write.at[name]),
                write.addr.eq(self.write.pool),
                read.addr.eq(pool),
            ]
            m.d.comb += [write.data[field].eq(at_most(word[field], width)) for field, width in kept.items()]
            with m.If(write.en):
                m.d.sync += written.bit_select(self.write.pool, 1).eq(1)
            reset = shape.const({field: registers[name].fields[field].reset for field in kept})
            value = Signal(shape, name=name)
            m.d.comb += value.eq(Mux(written.bit_select(pool, 1), read.data, reset))
            found.append(value)
        return found

    def _measure(self, m, looked, found, measured):
        """The window's least, and one cycle later how much more it is than the average."""
        fewer = Signal()
        m.d.sync += fewer.eq(looked.outstanding < looked.state.least)
        with m.If(fewer):
            m.d.sync += measured.state.least.eq(found.outstanding)
        difference = Signal(signed(len(measured.state.average) + 1))
        m.d.sync += difference.eq((measured.state.least << FRACTION_BITS) - measured.state.average)
        return difference

    def _follow(self, m, difference, visit, later):
        """The state after this visit."""
        before, after = visit.state, later.state
        step = difference >> exact_log2(CALM_WINDOWS)
        calm, moves = Signal(), Signal()
        average = Signal.like(before.average)
        m.d.comb += [
            calm.eq(before.clean & ~visit.tripped),
            moves.eq(visit.ended & calm & (before.calm == CALM_WINDOWS - 1)),
            average.eq(before.average + Mux(before.settled, step, difference)),
        ]
        m.d.sync += after.clean.eq(calm)
        with m.If(visit.ended):
            m.d.sync += [after.clean.eq(~visit.tripped), after.least.eq(visit.outstanding)]
            with m.If(calm & ~moves):
                m.d.sync += after.calm.eq(before.calm + 1)
        with m.If(moves):
            m.d.sync += [after.settled.eq(1), after.average.eq(average)]
            with m.If(~before.settled | (step <= 0)):
                m.d.sync += after.met.eq(average)
        with m.If(visit.tripped):
            m.d.sync += [after.calm.eq(0), after.average.eq(before.met)]
        with m.If(~visit.track):
            m.d.sync += [after.settled.eq(0), after.calm.eq(0), after.clean.eq(0), after.average.eq(0), after.met.eq(0)]

    def _bound(self, m, followed, halved, added, compared):
        """What is in force."""
        bits = count_bits(self._config)
        average = followed.state.average >> FRACTION_BITS
        wider, limit, most = Signal(bits + 1), Signal(range((2 << bits) + (1 << 16))), Signal(bits)
        beyond = Signal()
        m.d.sync += [
            wider.eq(average + (average >> 1)),
            limit.eq(wider + halved.slack),
            most.eq(Mux(halved.limit == 0, -1, halved.limit)),
            beyond.eq(limit > most),
        ]
        tracked, cap = Signal.like(limit), Signal.like(most)
        m.d.sync += [tracked.eq(limit), cap.eq(most)]
        bounds = self.bounds
        m.d.sync += [
            bounds.strobe.eq(compared.valid),
            bounds.pool.eq(compared.pool),
            bounds.limit.eq(compared.limit),
            bounds.resume.eq(compared.resume),
        ]
        with m.If(compared.state.settled):
            m.d.sync += bounds.limit.eq(Mux(beyond, cap, Mux(tracked == 0, 1, tracked)))
        half, steady = halved.slack >> 1, halved.state.average >> FRACTION_BITS
        with m.If(halved.state.settled):
            m.d.sync += added.resume.eq(Mux(steady < half, at_most(half, bits), steady))
