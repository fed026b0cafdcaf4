# SPDX-License-Identifier: BSD-2-Clause
"""A buffer that recycles is in one place at a time, and is handed out and taken back once."""

from collections.abc import Callable
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import data, enum, wiring

from hw.abi.pools import PoolCommand, RecycleError, RecycleSource
from hw.config import NicConfig
from hw.nic.recycle.interfaces import BufferName
from hw.nic.recycle.recycle_fifo import RecycleFifo
from hw.nic.recycle.tracker import _Change as Change
from hw.nic.recycle.tracker import _Step as Step
from tests.formal.channels import total
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


class RecycleProof(wiring.Component):
    """One buffer, whichever it is, and one place of its pool's list, whichever.

    Assumed of those who are trusted, and only of this buffer: ``delivered`` and ``unused`` come while it is popped and
    neither happened, and ``unused`` is not offered together with the other; ``returned`` while it is claimed for TX.
    And of its pool: it is live or enabled from four cycles after the first clearing on, and is cleared four cycles
    after it was enabled, while the buffer is free or has not joined, and no pop of the pool comes in that cycle. Claims
    of source TRANSMIT come as ``tx_claims``, all others as ``claims``. All else is free, in each cycle: claims,
    requests, pops, events of other buffers, resets, the order of a list, and what the memories hold at first.

    Proven: the buffer is in one place; a pop gives it if it is on the list, and removes it; what claims or removes it
    is granted if it is software's, and only then, unless it was delivered so lately that it may be refused; no list
    has more than all ids; ``free`` is the number of ids that are there; and the FIFO of what is granted has room for
    it. A memory may answer anything where it reads what is written in that cycle.

    About the other buffers of the pool it takes for granted what it proves of this one, of all cycles before. That is
    sound because this one is any: of the first cycle in which it was wrong for some buffer, it would be so for this.
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
        self._list(m)
        self._track(m)
        self._on_its_way(m)
        return m

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

    def _list(self, m: Module) -> None:
        """Where it is on the list, and how many are there."""
        inside, config, me, where, position = self._inside, self._config, self.me, self.where, self.position
        size = config.pool_buffers
        places = data.ArrayLayout(range(size), config.pools)
        registers = (inside.register("free_list", name) for name in ("first", "behind", "last"))
        first, behind, last = (data.View(places, register)[me.pool] for register in registers)
        stack = inside.register("free_list", "stack").bit_select(me.pool, 1)
        some = inside.register("free_list", "some").bit_select(me.pool, 1)
        free = self.free[me.pool]
        port = inside.write("free_list", "ids")

        def held(place: Value) -> Signal:
            """The id at this place of the list, if its write is still to come too."""
            address, found = Cat(place, me.pool), Signal(range(size))
            row = inside.row(m, address, "free_list", "ids")
            m.d.comb += found.eq(Mux(port._en & (port._addr == address), port._data, row))
            return found

        def listed(place: Value) -> Value:
            return (place - first)[: len(place)] < free

        any_place, next_place = Signal(range(size)), Signal(range(size))
        m.d.comb += [any_place.eq(AnyConst(len(any_place))), next_place.eq(Mux(stack, last, first))]
        push = self.free_list.push
        pops, pushes = Signal(), Signal()
        popped, there = held(next_place), where == Where.FREE
        m.d.comb += [
            pops.eq(self.pop.strobe & (self.pop.pool == me.pool) & (free != 0)),
            pushes.eq(push.strobe & (push.buffer.pool == me.pool)),
            self.popped_now.eq(pops & (popped == me.id)),
        ]
        with m.If(self.pushed):
            m.d.sync += position.eq(Mux(pops & stack, last, behind))
        m.d.comb += [
            Assert(~there | (listed(position) & (held(position) == me.id))),
            Assert(~(listed(any_place) & (held(any_place) == me.id)) | (there & (position == any_place))),
            Assert(~(self.popped_now & (next_place == any_place)) | there),
            Assert((behind - first)[: len(first)] == free[: len(first)]),
            Assert(last == (behind - 1)[: len(behind)]),
            Assert(~stack | (first == 0)),
            Assert(some == (free != 0)),
            Assert(~self.pushed | (free != size)),
            Assert((self.quiet != 0) | (where == Where.NONE)),
        ]

        # All ids that are on the list, as a tree of counts: it is full only if all are there.
        counts: list[Any] = []
        ids = size
        level = 0
        while ids:
            row = [Signal(range(2**level + 1), name=f"count_{level}_{index}") for index in range(ids)]
            for index, count in enumerate(row):
                comes = pushes & (push.buffer.id >> level == index)
                goes = pops & (popped >> level == index)
                m.d.sync += count.eq(Mux(self.wipe, 0, count + comes - goes))
                if counts:
                    m.d.comb += Assert(count == counts[-1][2 * index] + counts[-1][2 * index + 1])
                m.d.comb += Assert(count <= 2**level)
            counts.append(row)
            ids, level = ids // 2, level + 1
        on_list = Cat(counts[0])
        m.d.comb += [Assert(counts[-1][0] == free), Assert(on_list.bit_select(me.id, 1) == there)]

        # What is proven of the watched buffer and place, of those of the cycle before.
        sound = Signal(init=1)
        m.d.sync += sound.eq(
            (~pushes | (~on_list.bit_select(push.buffer.id, 1) & (free != size)))
            & (~pops | on_list.bit_select(popped, 1))
            & (~self.popped_now | (there & (position == next_place)))
        )
        m.d.comb += Assume(sound)

        # Popped, it is on its way until it shows.
        layout = {"strobe": 1, "valid": 1, "pool": range(config.pools), "place": len(port._addr)}
        asked = data.View(data.StructLayout(layout), inside.register("free_list", "asked"))
        written = inside.register("free_list", "written")
        read = Mux(written == Cat(asked.place, 1), inside.register("free_list", "id_written"), self.ids_read[0])
        shown = self.popped
        flies = asked.valid & (asked.pool == me.pool) & (read == me.id)
        shows = shown.strobe & shown.valid & self.mine(shown.buffer)
        m.d.comb += [
            Assert(~asked.valid | asked.strobe),
            Assert(flies + shows == (where == Where.POPPED)),
        ]

    def _track(self, m: Module) -> None:
        """What the tracker knows of it."""
        inside, me, where = self._inside, self.me, self.where
        config = self._config
        address = Cat(me.id, me.pool)
        joined, delivered, claimed = (
            inside.row(m, address, "tracker", name) for name in ("joined", "delivered", "claimed")
        )
        taken, read = (data.View(Step(config), inside.register("tracker", name)) for name in ("taken", "read"))
        known = self.known
        changes = [data.View(Change(config), inside.register("tracker", f"change_{age}")) for age in (1, 2)]
        changed = [change.claims & self.mine(change.buffer) for change in changes]
        joins = [change.joins & self.mine(change.buffer) for change in changes]
        looked = {name: answers[0] for name, answers in self.looked.items()}
        out, in_nic = where == Where.OUT, where != Where.NONE

        # A delivery takes two cycles to its bit.
        event = data.StructLayout({"valid": 1, "buffer": BufferName(config)})
        events = [data.View(event, inside.register("tracker", f"deliver_{age}")) for age in (0, 1)]
        young = [each.valid & self.mine(each.buffer) for each in events]
        pending = young[0] | young[1]
        lately = Signal(range(5))
        m.d.sync += lately.eq(Mux(self.delivered_now, 4, lately - (lately != 0)))
        given = delivered ^ pending
        m.d.comb += [
            Assert(lately <= 4),
            Assert(~(young[0] & young[1])),
            Assert(~pending | out),
            Assert(~young[0] | ((self.looked["delivered"][1] == delivered) & (lately == 4))),
            Assert(~young[1] | ((inside.register("tracker", "value") == delivered) & (lately == 3))),
        ]

        # The bits, with the write that is under way.
        is_joined = Mux(joins[0], changes[0].joined, joined)
        is_claimed = Mux(changed[0], changes[0].claimed, claimed)
        clearing, waiting = (
            bits.bit_select(me.pool, 1) for bits in (self.clearing, inside.register("tracker", "waiting"))
        )
        number = inside.register("tracker", "number")
        settled = self.cleared & ~waiting & ~(clearing & (number <= me.id))
        m.d.comb += [
            Assert(~settled | (is_joined == in_nic)),
            Assert(~in_nic | ((given != is_claimed) == out)),
            Assert((self.quiet == 0) | (self.cleared & ~clearing)),
        ]
        back = (where == Where.BACK) | (where == Where.SENT) | ~in_nic
        pushed_soon = self.free_list.push.strobe & self.mine(self.free_list.push.buffer)
        for change, change_joins in zip(changed, joins, strict=True):
            m.d.comb += [Assert(~change | back), Assert(~change_joins | change)]
        m.d.comb += [
            Assert(~changed[0] | ~pushed_soon),
            Assert(~joins[0] | (changes[0].joined == in_nic)),
            Assert(~joins[1] | joins[0] | (changes[1].joined == in_nic)),
        ]

        # Operations on their way.
        for step in (taken, read, known):
            claim = step.operation.claim
            with m.If(step.valid):
                m.d.comb += [
                    Assert(step.exists == (claim.pool < config.pools)),
                    Assert(step.in_range == (claim.id < config.pool_buffers)),
                    Assert(step.buffer.pool == claim.pool[: len(me.pool)]),
                    Assert(step.buffer.id == claim.id[: len(me.id)]),
                ]
        request, passes = known.operation.request, known.joins | known.gives
        is_claim, removes = request == PoolCommand.NONE, request == PoolCommand.REMOVE
        fine = known.valid & (known.error == RecycleError.NONE)
        m.d.comb += [
            Assert(~(read.live | read.enabled) | read.exists),
            Assert(~passes | (known.exists & known.in_range)),
            Assert(known.joins == (fine & (request == PoolCommand.JOIN))),
            Assert(known.gives == (fine & (is_claim | removes))),
            Assert(~known.valid | (known.claim == is_claim)),
            Assert(~(read.live | read.enabled) | (read.buffer.pool != me.pool) | (self.quiet == QUIET)),
            Assert(~(read.enabled & (read.buffer.pool == me.pool)) | (self.used >= 3)),
            Assert(~(read.live & (read.buffer.pool == me.pool)) | (self.used != 0)),
            Assert(~passes | (known.buffer.pool != me.pool) | (self.quiet == QUIET)),
            Assert(~(known.joins & (known.buffer.pool == me.pool)) | (self.used >= 2)),
        ]
        asks, judged = read.valid & self.mine(read.buffer), known.valid & self.mine(known.buffer)
        late, later = Signal(), Signal()  # looked up before the delivery: to be refused
        was = {name: inside.register("tracker", f"was_{name}") for name in looked}
        blocked = known.taken_back | (known.same[0] & changes[0].claims)
        m.d.comb += [
            later.eq(asks & (looked["delivered"] != given)),
            late.eq(judged & (was["delivered"] != given)),
            Assert(~later | (out & (lately >= 2) & (~judged | late))),
            Assert(~late | (out & (lately >= 1))),
            Assert(~pending | ((~asks | later) & (~judged | late))),
        ]
        with m.If(asks):
            m.d.comb += [
                Assert(read.same == Cat(self.mine(known.buffer), *(self.mine(each.buffer) for each in changes))),
                Assert(changed[0] | changed[1] | (looked["claimed"] == is_claimed)),
                Assert((self.quiet == 0) | joins[0] | joins[1] | (looked["joined"] == in_nic)),
            ]
        with m.If(judged):
            m.d.comb += [
                Assert(known.same[0] == self.mine(changes[0].buffer)),
                Assert(~known.taken_back | back | (where == Where.FREE)),
                Assert(blocked | (was["claimed"] == is_claimed)),
                Assert((self.quiet < 2) | (inside.wire("tracker", "joined") == in_nic)),
                Assert(~(known.gives & out & (lately == 0)) | self.granted),
                Assert(~(known.joins & ~in_nic) | self.granted),
            ]

    def _on_its_way(self, m: Module) -> None:
        """Where it is on its way back, and how many others may be."""
        inside, me, where = self._inside, self.me, self.where
        fifo, judgement = inside.component("granted"), self.tracker.judgement
        operation = judgement.operation
        claim, request = operation.claim, operation.request
        done = judgement.strobe & (judgement.error == RecycleError.NONE)
        of_me = (claim.pool == me.pool) & (claim.id == me.id)
        known_requests = (PoolCommand.NONE, PoolCommand.JOIN, PoolCommand.REMOVE)
        acts = done & Cat(request == each for each in known_requests).any()
        newest = data.View(Change(self._config), inside.register("tracker", "change_1"))
        m.d.comb += [
            Assert((acts & of_me) == (newest.claims & self.mine(newest.buffer))),
            Assert(~acts | ((claim.pool < self._config.pools) & (claim.id < self._config.pool_buffers))),
        ]

        rows, stored = Array(inside.rows(m, "granted", "storage")), inside.register("granted", "stored")
        write, read = inside.registers("granted", "place")
        skid = inside.component("granted", "skid")
        spare, payload = inside.registers("granted", "skid", "$signal")
        layout = fifo.output.payload.shape()
        extra = data.View(layout, payload)
        waiting = [fifo.output.valid & self.mine(fifo.output.payload.buffer), spare & self.mine(extra.buffer)]
        for place in range(len(rows)):
            here = (place - read)[: len(read)] < stored
            waiting.append(here & self.mine(rows[place].buffer))
        arrives = fifo.input.valid & of_me
        m.d.comb += [
            Assert(total([arrives, self.pushed, *waiting]) == (where == Where.BACK)),
            Assert(write == (read + stored)[: len(read)]),
            Assert(stored <= len(rows)),
            Assert(inside.register("granted", "more") == (stored != 0)),
            Assert(~spare | fifo.output.valid),
            Assert(skid.input.ready == ~spare),
            Assert(~fifo.input.valid | fifo.input.ready),
        ]

        # Everything for which room was taken is somewhere.
        steps = [data.View(Step(self._config), inside.register("tracker", n)) for n in ("taken", "read", "known")]
        offered = self.tracker.operations
        under_way = [(offered.valid, offered.payload), (judgement.strobe, operation)]
        under_way += [(step.valid, step.operation) for step in steps]
        others = [
            valid & ~((op.request == PoolCommand.NONE) & (op.claim.source == RecycleSource.TRANSMIT))
            for valid, op in under_way
        ]
        held = stored + fifo.output.valid + spare
        for path, count in (("room",), total(others) + held + inside.register("owed")), (("granted", "room"), stored):
            room, (used, *_) = inside.component(*path).room, inside.registers(*path, "$signal")
            given = inside.register(*path, "given")
            m.d.comb += [
                Assert(used == count + given),
                Assert(used <= len(rows)),
                Assert(room == (used != len(rows))),
            ]
        m.d.comb += Assert(~inside.register("granted", "room", "given") | fifo.output.valid)


def small(pools: int, buffers: int) -> Callable[[], RecycleProof]:
    return lambda: RecycleProof(NicConfig(pools=pools, pool_buffers=buffers))


#: By name; inductive in two cycles.
RECYCLE_PROOFS = {f"recycle_{pools}x{buffers}": small(pools, buffers) for pools, buffers in ((1, 16), (1, 64), (2, 16))}
