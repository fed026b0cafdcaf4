# SPDX-License-Identifier: BSD-2-Clause
"""How many buffers of a pool are where, and how many more its limit leaves."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.recycle.interfaces import count_bits

#: Events of one buffer each.
SINGLE_EVENTS = ("granted", "missed", "unused", "taken", "handed_back", "returned", "removed")


class PoolCounts(data.StructLayout):
    """Buffers of a pool that are ``outstanding``: given to frames, or taken by software, and not back; and ``ahead``:
    granted to the supply, or held by queues. Register OUTSTANDING."""

    def __init__(self, config: NicConfig):
        super().__init__({"outstanding": count_bits(config), "ahead": count_bits(config)})


class PoolEvents(data.StructLayout):
    """What happens to a pool's buffers in a cycle: a bit for each of ``SINGLE_EVENTS``, and how many are ``given``."""

    def __init__(self, config: NicConfig):
        super().__init__(dict.fromkeys(SINGLE_EVENTS, 1) | {"given": range(config.fetch_depth + 1)})


class PoolCounter(wiring.Component):
    """Counts the buffers of one pool.

    After reset no limit is known, and there is no ``room``.

    Ports
    -----
    granted : In
        A buffer leaves the free list. ``room`` knows of it in the next cycle.
    events : In
        That grant, one cycle later, and all else that happens: ``counts`` knows of it in the second cycle after, and
        ``room`` then or in the third.
    update, limit, gain : In
        From the next cycle on ``limit`` is in force, 0: none. It is ``gain`` + 1 more than the one before. Not in two
        cycles in a row.
    room : Out
        One more buffer may be granted: fewer than the limit are outstanding or ahead.
    counts, limit_in_force : Out
    """

    def __init__(self, config: NicConfig):
        bits = count_bits(config)
        super().__init__(
            {
                "granted": In(1),
                "events": In(PoolEvents(config)),
                "update": In(1),
                "limit": In(bits),
                "gain": In(signed(bits + 1)),
                "room": Out(1),
                "counts": Out(PoolCounts(config)),
                "limit_in_force": Out(bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        events, counts = self.events, self.counts
        to_frames = events.given + events.taken
        came_back = events.handed_back + events.returned + events.removed
        not_used = events.missed + events.unused
        more_outstanding = Signal.like(to_frames - came_back)
        more_ahead = Signal.like(events.granted - not_used - to_frames)
        m.d.sync += [
            more_outstanding.eq(to_frames - came_back),
            more_ahead.eq(events.granted - not_used - to_frames),
            counts.outstanding.eq(counts.outstanding + more_outstanding),
            counts.ahead.eq(counts.ahead + more_ahead),
        ]

        # What is left is kept less one, so that its sign says whether there is room. What came back waits where the
        # limit changes, so that one adder does for both.
        left = Signal(signed(len(self.gain)), init=-1)
        unlimited, back = Signal(), Signal(range(11))
        more = Signal.like(left)
        m.d.comb += more.eq(Mux(self.update, self.gain, back - 1))
        m.d.sync += [
            back.eq(came_back + not_used + Mux(self.update, back, 0)),
            left.eq((Cat(Const(1), left) + Cat(~self.granted, more)) >> 1),  # a grant is one carry less
        ]
        with m.If(self.update):
            m.d.sync += [self.limit_in_force.eq(self.limit), unlimited.eq(self.limit == 0)]
        m.d.comb += self.room.eq(unlimited | ~left[-1])
        return m
