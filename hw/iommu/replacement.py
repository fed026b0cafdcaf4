# SPDX-License-Identifier: BSD-2-Clause
"""Which way of a full set a cache gives up."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import REPLACEMENTS

_LFSR_BITS = 16
_LFSR_TAPS = (15, 14, 12, 3)  # x^16 + x^15 + x^13 + x^4 + 1: greatest period


class Replacement(wiring.Component):
    """A victim for each set, by one of three policies.

    ``not_recent`` gives up the lowest way that was neither hit nor filled since all others were; ``round_robin`` the
    next one in turn of its set; ``random`` any. State lies in memories, so a use after reset begins with ``clear`` of
    every set.

    Parameters
    ----------
    policy : one of :data:`hw.config.REPLACEMENTS`
    sets, ways : shape of the cache
    ports : lookups that may hit in one cycle

    Ports
    -----
    touches : In
        ``strobe``: way ``way`` (one-hot) of ``set`` was hit. One that meets a fill in the same cycle may be forgotten.
    look : In
        The set that is asked about in cycle *c*.
    victim : Out
        Its way, one-hot, in cycle *c* + 2.
    filled, evicted, way : In
        In that same cycle *c* + 2: ``way`` got a new entry, and gave up a valid one that was the victim.
    clear, clear_set : In
        Forget everything about a set; takes precedence over ``touches`` and ``filled``.
    """

    def __init__(self, policy: str, *, sets: int, ways: int, ports: int):
        if policy not in REPLACEMENTS:
            raise ValueError(f"Replacement must be one of {', '.join(REPLACEMENTS)}, not {policy!r}")
        self.policy = policy
        self.sets = sets
        self.ways = ways
        self.ports = ports
        touch = wiring.Signature({"strobe": Out(1), "set": Out(range(sets)), "way": Out(ways)})
        super().__init__(
            {
                "touches": In(touch).array(ports),
                "look": In(range(sets)),
                "victim": Out(ways),
                "filled": In(1),
                "evicted": In(1),
                "way": In(ways),
                "clear": In(1),
                "clear_set": In(range(sets)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.ways == 1:
            m.d.comb += self.victim.eq(1)
        elif self.policy == "not_recent":
            self._not_recent(m)
        elif self.policy == "round_robin":
            self._round_robin(m)
        else:
            self._random(m)
        return m

    def _memory(self, m: Module, name: str, shape: ShapeLike, granularity: int | None = None) -> tuple[Any, Value]:
        """State of each set: its write port, and the word of the set looked at, two cycles later."""
        memory = Memory(shape=Shape.cast(shape), depth=self.sets, init=[])
        m.submodules[name] = memory
        read, write = memory.read_port(), memory.write_port(granularity=granularity)
        word = Signal(shape, name=f"{name}_word")
        m.d.comb += read.addr.eq(self.look)
        m.d.sync += word.eq(read.data)
        return write, word

    def _looked(self, m: Module) -> Signal:
        """The set whose victim stands."""
        read, looked = Signal(range(self.sets)), Signal(range(self.sets))
        m.d.sync += [read.eq(self.look), looked.eq(read)]
        return looked

    def _not_recent(self, m: Module) -> None:
        # A memory for each port, because each writes every cycle; a way is recent if one of them says so.
        looked = self._looked(m)
        recent: Value = Const(0, self.ways)
        writes = []
        for index in range(self.ports):
            write, word = self._memory(m, f"recent_{index}", self.ways, granularity=1)
            recent |= word
            writes.append(write)
        full = (recent | self.way).all()
        choice = Mux(recent.all(), Const(1, self.ways), ~recent)
        m.d.comb += self.victim.eq(lowest(choice, self.ways))
        for index, (write, touch) in enumerate(zip(writes, self.touches)):
            with m.If(self.clear):
                m.d.comb += [write.addr.eq(self.clear_set), write.en.eq(~0)]
            with m.Elif(self.filled):
                # The new entry is recent; it is the only one once all are.
                m.d.comb += [
                    write.addr.eq(looked),
                    write.data.eq(self.way if index == 0 else 0),
                    write.en.eq(Mux(full, ~0, self.way if index == 0 else 0)),
                ]
            with m.Else():
                m.d.comb += [
                    write.addr.eq(touch.set),
                    write.data.eq(~0),
                    write.en.eq(Mux(touch.strobe, touch.way, 0)),
                ]

    def _round_robin(self, m: Module) -> None:
        looked = self._looked(m)
        write, turn = self._memory(m, "turns", range(self.ways))
        m.d.comb += [
            self.victim.eq(Const(1, self.ways) << turn),
            write.addr.eq(Mux(self.clear, self.clear_set, looked)),
            write.data.eq(Mux(self.clear | (turn == self.ways - 1), 0, turn + 1)),
            write.en.eq(self.clear | (self.filled & self.evicted)),
        ]

    def _random(self, m: Module) -> None:
        state = Signal(_LFSR_BITS, init=1)
        with m.If(self.filled):
            feedback = Const(0, 1)
            for tap in _LFSR_TAPS:
                feedback ^= state[tap]
            m.d.sync += state.eq(Cat(feedback, state))
        drawn = Signal(range(self.ways))
        m.d.comb += [
            drawn.eq((state * self.ways) >> _LFSR_BITS),
            self.victim.eq(Const(1, self.ways) << drawn),
        ]


def lowest(bits: Value, width: int) -> Value:
    """The lowest bit that is on, alone."""
    return (bits & (~bits + 1))[:width]
