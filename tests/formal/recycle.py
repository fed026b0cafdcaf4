# SPDX-License-Identifier: BSD-2-Clause
"""A buffer that recycles is in one place at a time, and is handed out and taken back once."""

from collections.abc import Callable

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import data

from hw.abi.pools import PoolCommand, RecycleError, RecycleSource
from hw.config import NicConfig
from hw.nic.recycle.interfaces import BufferName
from hw.nic.recycle.tracker import _Change as Change
from hw.nic.recycle.tracker import _Step as Step
from tests.formal.channels import total
from tests.formal.recycle_list import FreeListProof
from tests.formal.recycled_buffer import QUIET, Where


class RecycleProof(FreeListProof):
    """Proven besides: the bits of the tracker tell where the buffer is, for each operation on its way. What claims or
    removes it is granted if it is software's for more than four cycles; in these, it may be refused. On its way to the
    list it is in one place: granted, in the FIFO, or in the register before the list. And that FIFO takes all that it
    is offered, since for all in it, and all operations of others than TX, room was taken.
    """

    def invariants(self, m: Module) -> None:
        super().invariants(m)
        self._track(m)
        self._on_its_way(m)

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


def proof(pools: int, buffers: int) -> Callable[[], RecycleProof]:
    return lambda: RecycleProof(NicConfig(pools=pools, pool_buffers=buffers))


#: By name, pools and buffers of each; inductive in one cycle.
RECYCLE_PROOFS = {f"recycle_{pools}x{buffers}": proof(pools, buffers) for pools, buffers in ((1, 16), (2, 16), (1, 64))}
