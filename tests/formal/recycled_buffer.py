# SPDX-License-Identifier: BSD-2-Clause
"""One buffer among its neighbours: RX, TX, and software that hands back whatever it likes."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import data, enum, wiring

from hw.abi.pools import RecycleSource
from hw.config import NicConfig
from hw.nic.recycle.interfaces import BufferName
from hw.nic.recycle.recycle_fifo import RecycleFifo
from hw.nic.recycle.tracker import _Change as Change
from hw.nic.recycle.tracker import _Step as Step
from tests.formal.inside import Inside
from tests.formal.streams import bind

QUIET = 4  #: cycles between a pool's use and its clearing; PoolLifecycle lets 16 pass


class Where(enum.Enum, shape=3):
    """Where a buffer is."""

    NONE = 0  #: not joined
    FREE = 1  #: on the free list
    POPPED = 2  #: on its way from there
    AHEAD = 3  #: popped
    OUT = 4  #: software's
    SENT = 5  #: claimed for TX
    BACK = 6  #: on its way to the free list


class BufferProof(wiring.Component):
    """A recycle FIFO, watched with the eyes of one buffer, whichever it is.

    Assumed of those who are trusted, for this buffer, is what the FIFO's contract says: ``delivered`` or ``unused``
    comes once after it was popped; ``returned`` once after its TX claim was granted, as early as that. Of its pool: it
    is live or enabled from four cycles after a clearing on, and is cleared when it has not been enabled for four
    cycles nor live in the one before, the buffer is free or has not joined, and no pop of the pool comes.
    :class:`hw.nic.recycle.lifecycle.PoolLifecycle` waits longer. ``tx_claims`` are of source TRANSMIT, and no other
    claims are. Streams hold. All else is free in each cycle: claims, requests, pops, events of other buffers, resets,
    which order a list has, and what memories hold at first and answer where they read what is being written.

    Proven here: it is granted to who claims or removes it only while it is software's, and joins only if it has not.
    It is put on the list only when it is on its way there, and shown as popped only when it has just left it.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._fifo = RecycleFifo(config)
        super().__init__(self._fifo.signature)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, fifo = self._config, self._fifo
        self._inside = inside = Inside(fifo)
        self.ids_read = inside.collide(m, "free_list", "ids")
        self.looked = {name: inside.collide(m, "tracker", name) for name in ("joined", "delivered", "claimed")}
        bind(m, self, fifo, proven=(), submodule=inside.fragment)
        self.tracker, self.free_list = inside.component("tracker"), inside.component("free_list")

        self.me = me = Signal(BufferName(config))
        self.where, self.position = Signal(Where), Signal(range(config.pool_buffers))
        m.d.comb += Value.cast(me).eq(AnyConst(len(Value.cast(me))))
        self.quiet = Signal(range(QUIET + 1))  # cycles for which the pool has been clear
        self._assume(m)
        self._move(m)
        self.invariants(m)
        return m

    def invariants(self, m: Module) -> None:
        """What else is asserted."""
        raise NotImplementedError

    def mine(self, buffer: Any) -> Value:
        """Whether it is the watched one, by a name that may have more bits."""
        return (buffer.pool == self.me.pool) & (buffer.id == self.me.id)

    def _assume(self, m: Module) -> None:
        """What those who are trusted do."""
        me, where = self.me, self.where
        enabled, clear = self.enabled.bit_select(me.pool, 1), self.clear.bit_select(me.pool, 1)
        clearing, live = self.clearing.bit_select(me.pool, 1), self.live.bit_select(me.pool, 1)
        self.cleared = cleared = Signal()  # once at least
        self.used = used = Signal(range(QUIET + 1))
        self.wipe = clear
        m.d.sync += [
            cleared.eq(cleared | clear),
            self.quiet.eq(Mux(clear | clearing | ~cleared, 0, self.quiet + (self.quiet != QUIET))),
            used.eq(Mux(enabled, QUIET, Mux(live & (used < 2), 1, used - (used != 0)))),
        ]
        self.unused_now = self.unused.valid & self.mine(self.unused.payload)
        self.delivered_now = self.delivered.strobe & self.mine(self.delivered.buffer)
        self.returned_now = self.returned.strobe & self.mine(self.returned.buffer)
        popping = self.pop.strobe & (self.pop.pool == me.pool)
        use = enabled | live
        assumptions = (
            ~(self.unused_now | self.delivered_now) | (where == Where.AHEAD),
            ~(self.unused_now & self.delivered_now),
            ~self.returned_now | (where == Where.SENT),
            ~use | ((self.quiet == QUIET) & ~clear),
            ~clear | (~popping & ~enabled & (used == 0) & ((where == Where.NONE) | (where == Where.FREE))),
            self.tx_claims.payload.source == RecycleSource.TRANSMIT,
            self.claims.payload.source != RecycleSource.TRANSMIT,
        )
        m.d.comb += [Assume(assumption) for assumption in assumptions]
        m.d.comb += [Assert(self.quiet <= QUIET), Assert(used <= QUIET)]

    def _move(self, m: Module) -> None:
        """Follow the buffer."""
        inside, where = self._inside, self.where
        self.known = known = data.View(Step(self._config), inside.register("tracker", "known"))
        change = data.View(Change(self._config), inside.wire("tracker", "change_0"))
        self.granted = granted = change.claims & self.mine(change.buffer)
        push = self.free_list.push
        self.pushed = push.strobe & self.mine(push.buffer)
        self.popped_now = Signal()
        claim = known.operation.claim
        kept = known.claim & (claim.source == RecycleSource.TRANSMIT)
        with m.If(granted):
            m.d.sync += where.eq(
                Mux(~known.claim & ~known.joins, Where.NONE, Mux(kept, Where.SENT, Where.BACK)),
            )
            m.d.comb += Assert(Mux(known.joins, where == Where.NONE, where == Where.OUT))
        with m.If(self.pushed):
            m.d.sync += where.eq(Where.FREE)
            m.d.comb += Assert(where == Where.BACK)
        with m.If(self.popped_now):
            m.d.sync += where.eq(Where.POPPED)
        shown = self.popped.strobe & self.popped.valid & self.mine(self.popped.buffer)
        with m.If(shown):
            m.d.sync += where.eq(Where.AHEAD)
            m.d.comb += Assert(where == Where.POPPED)
        with m.If(self.delivered_now):
            m.d.sync += where.eq(Where.OUT)
        with m.If(self.returned_now | (self.unused_now & self.unused.ready)):
            m.d.sync += where.eq(Where.BACK)
        with m.If(self.wipe):
            m.d.sync += where.eq(Where.NONE)
