# SPDX-License-Identifier: BSD-2-Clause
"""The recycle FIFO: buffers come back through one door, and leave through another."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.pools import PoolCommand, RecycleError, RecycleSource
from hw.bus.fifo import StreamFifo
from hw.bus.room import Room
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.recycle.free_list import FreeList, Pop, Popped
from hw.nic.recycle.interfaces import (
    BufferEvent,
    BufferName,
    PoolEvent,
    RequestPort,
    Verdict,
    claim_stream,
    count_bits,
)
from hw.nic.recycle.tracker import JUDGED_CYCLES, Operation, Tracker

_WAITING = 16  #: operations of others than TX on their way, with what of them goes to the free list
VERDICT_CYCLES = JUDGED_CYCLES + 2  #: from a claim's transfer to its verdict


class RecycleFifo(wiring.Component):
    """Tracker and free lists of all pools: see :mod:`hw.nic.recycle`.

    ::

        tx_claims ──────┐                          ┌─► verdict, answers
        claims, requests┴─► operations ─► tracker ─┤
                                                   └─► granted ─┐
                              returned (sent by TX), unused ────┴─► free list ─► popped

    **Order.** Claims and requests are judged one a cycle, those of ``tx_claims`` before all others, which take turns. A
    claim's verdict comes :data:`VERDICT_CYCLES` after its transfer, in order.

    **Nothing is lost.** What was granted to a return register or a fill descriptor, and what joins, waits for a cycle
    in which the free list has nothing of TX to take. Claims of others than TX, and requests, wait while 16 are on their
    way; ``unused`` waits for both.

    **Whom it trusts.** Claims and requests may be any. ``delivered`` comes for buffers that were popped, once each
    time; ``returned`` for those whose TX claim was granted, once; ``unused`` for those that were popped and not
    delivered, instead of that.

    Members
    -------
    tx_claims : stream of claims of source TRANSMIT, taken every cycle
    claims : stream of all others
    verdict : what became of each claim
    commands, scans : requests, see :class:`hw.nic.recycle.interfaces.RequestPort`
    delivered : software has the buffer now
    returned : TX has read it
    unused : buffers that were popped, and not used
    pop, popped : see :class:`hw.nic.recycle.free_list.FreeList`
    lifo, clear, clearing, live, enabled : see there and :class:`hw.nic.recycle.tracker.Tracker`. A pool is cleared only
        when none of its buffers is on its way here
    free, joined : of each pool
    handed_back : a buffer that a return register or a fill descriptor gave back is on the free list
    removed : a buffer was removed
    """

    def __init__(self, config: NicConfig):
        self._config = config
        pools = config.pools
        counts = data.ArrayLayout(count_bits(config), pools)
        super().__init__(
            {
                "tx_claims": In(claim_stream(config)),
                "claims": In(claim_stream(config)),
                "verdict": Out(Verdict(config)),
                "commands": In(RequestPort(config)),
                "scans": In(RequestPort(config)),
                "delivered": In(BufferEvent(config)),
                "returned": In(BufferEvent(config)),
                "unused": In(stream.Signature(BufferName(config))),
                "pop": In(Pop(config)),
                "popped": Out(Popped(config)),
                "lifo": In(pools),
                "clear": In(pools),
                "clearing": Out(pools),
                "live": In(pools),
                "enabled": In(pools),
                "free": Out(counts),
                "joined": Out(counts),
                "handed_back": Out(PoolEvent(config)),
                "removed": Out(PoolEvent(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.free_list = free_list = FreeList(config)
        m.submodules.tracker = tracker = Tracker(config)
        for inner, outer in (
            (free_list.pop, self.pop),
            (free_list.popped, self.popped),
            (tracker.delivered, self.delivered),
        ):
            connect(m, inner, flipped(outer))
        m.d.comb += [
            *(block.clear.eq(self.clear) for block in (free_list, tracker)),
            free_list.lifo.eq(self.lifo),
            tracker.live.eq(self.live),
            tracker.enabled.eq(self.enabled),
            self.clearing.eq(tracker.clearing),
            self.free.eq(free_list.free),
        ]
        m.submodules.room = room = Room(_WAITING)
        self._operate(m, tracker, room)
        self._push(m, tracker, free_list, room)
        self._answer(m, tracker)
        return m

    def _operate(self, m: Module, tracker: Tracker, room: Room) -> None:
        """Who is next: TX, or one of the others in turn, if there is room for what may come of it."""
        m.submodules.arbiter = arbiter = RoundRobin(3)
        operation, chosen = Signal(Operation(self._config)), Signal()
        other = self.commands.request, self.scans.request
        goes = Signal()
        m.d.comb += [
            self.tx_claims.ready.eq(1),
            arbiter.requests.eq(Mux(room.room, self.claims.valid | other[0].valid << 1 | other[1].valid << 2, 0)),
            goes.eq(arbiter.valid & ~self.tx_claims.valid),
            arbiter.taken.eq(goes),
            room.take.eq(goes),
            self.claims.ready.eq(goes & (arbiter.grant == 0)),
            chosen.eq(self.tx_claims.valid | goes),
        ]
        for number, request in enumerate(other, 1):
            m.d.comb += request.ready.eq(goes & (arbiter.grant == number))
        with m.If(self.tx_claims.valid):
            m.d.comb += operation.claim.eq(self.tx_claims.payload)
        with m.Elif(arbiter.grant == 0):
            m.d.comb += operation.claim.eq(self.claims.payload)
        for number, request in enumerate(other, 1):
            with m.Elif(arbiter.grant == number):
                m.d.comb += [
                    operation.claim.pool.eq(request.payload.pool),
                    operation.claim.id.eq(request.payload.id),
                    operation.request.eq(request.payload.operation),
                    operation.scans.eq(number == 2),
                ]
        m.d.sync += [
            tracker.operations.valid.eq(chosen),
            tracker.operations.payload.eq(operation),
        ]

    def _push(self, m: Module, tracker: Tracker, free_list: FreeList, room: Room) -> None:
        """What goes onto the free list: TX's first, then what was granted, then what was not used."""
        config = self._config
        granted = data.StructLayout({"buffer": BufferName(config), "joins": 1})
        m.submodules.granted = fifo = StreamFifo(granted, _WAITING)
        judgement = tracker.judgement
        operation, buffer = judgement.operation, fifo.input.payload.buffer
        done, joins, comes_back, leaves = (Signal(name=n) for n in ("done", "joins", "comes_back", "leaves"))
        m.d.comb += [
            done.eq(judgement.strobe & (judgement.error == RecycleError.NONE)),
            joins.eq(done & (operation.request == PoolCommand.JOIN)),
            comes_back.eq(
                done & (operation.request == PoolCommand.NONE) & (operation.claim.source != RecycleSource.TRANSMIT)
            ),
            leaves.eq(done & (operation.request == PoolCommand.REMOVE)),
            fifo.input.valid.eq(joins | comes_back),
            buffer.pool.eq(operation.claim.pool),
            buffer.id.eq(operation.claim.id),
            fifo.input.payload.joins.eq(joins),
            fifo.output.ready.eq(~self.returned.strobe),
            self.unused.ready.eq(~self.returned.strobe & ~fifo.output.valid),
        ]
        # Room is given back for what was pushed, and for what will not be; both may come in one cycle.
        pushed, over, owed = Signal(), Signal(), Signal(range(_WAITING + 1))
        m.d.comb += [
            pushed.eq(fifo.output.valid & fifo.output.ready),
            over.eq(
                judgement.strobe
                & ~fifo.input.valid
                & ~((operation.request == PoolCommand.NONE) & (operation.claim.source == RecycleSource.TRANSMIT))
            ),
            room.give.eq(pushed | over | (owed != 0)),
        ]
        m.d.sync += owed.eq(owed + pushed + over - room.give)

        given_back = fifo.output.payload
        push = free_list.push
        m.d.sync += [
            push.strobe.eq(self.returned.strobe | fifo.output.valid | self.unused.valid),
            push.buffer.eq(self.returned.buffer),
            self.handed_back.strobe.eq(pushed & ~given_back.joins),
            self.handed_back.pool.eq(given_back.buffer.pool),
            self.handed_back.count.eq(1),
            self.removed.strobe.eq(leaves),
            self.removed.pool.eq(operation.claim.pool),
            self.removed.count.eq(1),
        ]
        with m.If(~self.returned.strobe):
            m.d.sync += push.buffer.eq(Mux(fifo.output.valid, given_back.buffer, self.unused.payload))
        for pool in range(config.pools):
            mine = operation.claim.pool == pool
            m.d.sync += self.joined[pool].eq(self.joined[pool] + (joins & mine) - (leaves & mine))
            with m.If(self.clear[pool]):
                m.d.sync += self.joined[pool].eq(0)

    def _answer(self, m: Module, tracker: Tracker) -> None:
        """Tell who asked."""
        judgement = tracker.judgement
        claims = judgement.operation.request == PoolCommand.NONE
        m.d.sync += [
            self.verdict.strobe.eq(judgement.strobe & claims),
            self.verdict.claim.eq(judgement.operation.claim),
            self.verdict.error.eq(judgement.error),
        ]
        for port, scans in ((self.commands, 0), (self.scans, 1)):
            m.d.sync += [
                port.answer.strobe.eq(judgement.strobe & ~claims & (judgement.operation.scans == scans)),
                port.answer.error.eq(judgement.error),
                port.answer.state.eq(judgement.state),
            ]
