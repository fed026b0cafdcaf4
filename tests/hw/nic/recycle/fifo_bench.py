# SPDX-License-Identifier: BSD-2-Clause
"""A recycle FIFO among its neighbours: RX, TX, software that hands buffers back rightly or wrongly, and commands."""

import random
from collections import deque
from enum import Enum

from amaranth.sim import Simulator

from hw.abi.pools import BufferState, PoolCommand, RecycleError, RecycleSource
from hw.config import NicConfig
from hw.nic.recycle.recycle_fifo import VERDICT_CYCLES, RecycleFifo

BOUND = 400
YOUNG = 3  #: cycles from a delivery in which a claim may be judged by it or not


class Where(Enum):
    """Where a buffer is, as far as anybody outside can know."""

    NONE = "not joined"
    FREE = "on its way to the free list, or there"
    AHEAD = "popped"
    OUT = "software's"
    SENT = "claimed for TX"
    UNSURE = "software's, or just claimed: a verdict will tell"


class FifoBench:
    """Drives a :class:`RecycleFifo` cycle by cycle. What it trusts is kept; everything else is random.

    Attributes
    ----------
    where : of each buffer that can be, by (pool, id)
    verdicts : (claim, error) of each, in order
    rates : how eager each neighbour is, by its name
    """

    def __init__(self, config: NicConfig, *, seed=0, lifo=0):
        self.config = config
        self.dut = RecycleFifo(config)
        self.rng = random.Random(seed)
        self.lifo = lifo
        self.where = {(p, i): Where.NONE for p in range(config.pools) for i in range(config.pool_buffers)}
        self.rates = dict.fromkeys(("tx", "claim", "wrong", "pop", "deliver", "unused", "return", "command"), 0.3)
        self.rates["wrong"] = 0.1
        self.verdicts, self.pops = [], []
        self.counted = {"handed_back": 0, "removed": 0}
        self.cycle = 0
        self._expected = deque()  # (cycle, claim, error or a set of possible ones)
        self._doubts = {}
        self._young = {}  # cycle in which a buffer was delivered: how it is judged is open for a while
        self._offers = {"tx": None, "claim": None, "unused": None}
        self._request = None
        self._asked = None

    def run(self, cycles, *, settle=BOUND):
        sim = Simulator(self.dut)
        sim.add_clock(1e-6)

        async def testbench(ctx):
            ctx.set(self.dut.lifo, self.lifo)
            ctx.set(self.dut.clear, -1)
            await ctx.tick()
            ctx.set(self.dut.clear, 0)
            for _ in range(BOUND):
                if not ctx.get(self.dut.clearing):
                    break
                await ctx.tick()
            else:
                raise AssertionError(f"Waited {BOUND} cycles for all pools to be cleared")
            ctx.set(self.dut.live, -1)
            ctx.set(self.dut.enabled, -1)
            for self.cycle in range(cycles):
                await self._step(ctx, calm=False)
            for self.cycle in range(cycles, cycles + settle):
                await self._step(ctx, calm=True)
            self._check_end(ctx)

        sim.add_testbench(testbench)
        sim.run()
        return self

    def some(self, where):
        """A random buffer that is there, or None."""
        there = [name for name, at in self.where.items() if at is where]
        return self.rng.choice(there) if there else None

    def eager(self, name, calm):
        return not calm and self.rng.random() < self.rates[name]

    async def _step(self, ctx, *, calm):
        self._drive_claims(ctx, calm)
        self._drive_events(ctx, calm)
        self._drive_request(ctx, calm)
        self._take(ctx)
        self._watch(ctx)
        await ctx.tick()

    # What goes in

    def _drive_claims(self, ctx, calm):
        for name, port in (("tx", self.dut.tx_claims), ("claim", self.dut.claims)):
            if self._offers[name] is None and self.eager(name, calm):
                self._offers[name] = self._claim(name)
            claim = self._offers[name]
            ctx.set(port.valid, claim is not None)
            if claim is not None:
                pool, buffer, source, error = claim
                ctx.set(port.payload, {"pool": pool, "id": buffer, "source": source, "queue": 0, "error": error})

    def _claim(self, name):
        error = RecycleError.NONE
        source = RecycleSource.TRANSMIT
        if name == "claim":
            source = self.rng.choice((RecycleSource.RETURN, RecycleSource.FILL))
        if self.rng.random() < self.rates["wrong"]:
            pool, buffer = self.rng.randrange(16), self.rng.randrange(2 * self.config.pool_buffers)
            error = self.rng.choice((RecycleError.NONE, RecycleError.SEGMENT))
            return pool, buffer, source, error
        found = self.some(Where.OUT)
        return None if found is None else (*found, source, error)

    def _drive_events(self, ctx, calm):
        dut = self.dut
        pool = self.rng.randrange(self.config.pools)
        ctx.set(dut.pop.strobe, self.eager("pop", calm))
        ctx.set(dut.pop.pool, pool)
        for name, port, there, then in (
            ("deliver", dut.delivered, Where.AHEAD, Where.OUT),
            ("return", dut.returned, Where.SENT, Where.FREE),
        ):
            found = self.some(there) if calm or self.eager(name, calm) else None
            ctx.set(port.strobe, found is not None)
            if found is not None:
                ctx.set(port.buffer, {"pool": found[0], "id": found[1]})
                self.where[found] = then
                if then is Where.OUT:
                    self._young[found] = self.cycle
        if self._offers["unused"] is None and self.eager("unused", calm):
            self._offers["unused"] = found = self.some(Where.AHEAD)
            if found is not None:
                self.where[found] = Where.FREE
        found = self._offers["unused"]
        ctx.set(dut.unused.valid, found is not None)
        if found is not None:
            ctx.set(dut.unused.payload, {"pool": found[0], "id": found[1]})

    def _drive_request(self, ctx, calm):
        port = self.dut.commands.request
        if self._request is None and self._asked is None and self.eager("command", calm):
            operation = self.rng.choice((PoolCommand.JOIN, PoolCommand.JOIN, PoolCommand.REMOVE, PoolCommand.QUERY))
            pool, buffer = self.rng.randrange(self.config.pools), self.rng.randrange(self.config.pool_buffers + 2)
            self._request = operation, pool, buffer
        ctx.set(port.valid, self._request is not None)
        if self._request is not None:
            operation, pool, buffer = self._request
            ctx.set(port.payload, {"operation": operation, "pool": pool, "id": buffer})

    # What is taken, and how it must be judged

    def _take(self, ctx):
        dut = self.dut
        if self._offers["unused"] is not None and ctx.get(dut.unused.ready):
            self._offers["unused"] = None
        for name, port in (("tx", dut.tx_claims), ("claim", dut.claims)):
            if self._offers[name] is not None and ctx.get(port.ready):
                self._judge(self._offers[name])
                self._offers[name] = None
        if self._request is not None and ctx.get(dut.commands.request.ready):
            self._asked, self._request = (self._request, self._judge_request(*self._request)), None

    def _errors(self, pool, buffer):
        """Why a claim of a buffer may be refused now."""
        where = self.where.get((pool, buffer))
        if pool >= self.config.pools:
            return {RecycleError.POOL}
        if where is None:
            return {RecycleError.RANGE}
        if where is Where.NONE:
            return {RecycleError.UNKNOWN}
        if where not in (Where.OUT, Where.UNSURE):
            return {RecycleError.NOT_OUT}
        # It is not said whether what is delivered about now is out already.
        unsure = where is Where.UNSURE or self.cycle - self._young[pool, buffer] < YOUNG
        return {RecycleError.NONE, RecycleError.NOT_OUT, RecycleError.UNKNOWN} if unsure else {RecycleError.NONE}

    def _judge(self, claim):
        pool, buffer, source, error = claim
        errors = {error} if error != RecycleError.NONE else self._errors(pool, buffer)
        if errors == {RecycleError.NONE}:
            self._granted(pool, buffer, source)
        elif len(errors) > 1:
            self._doubt(pool, buffer)
        self._expected.append((self.cycle + VERDICT_CYCLES, claim, errors))

    def _doubt(self, pool, buffer):
        self.where[pool, buffer] = Where.UNSURE
        self._doubts[pool, buffer] = self._doubts.get((pool, buffer), 0) + 1

    def _resolve(self, pool, buffer, error, granted):
        """The answer to one of those who were in doubt: the first that is granted is the only one."""
        self._doubts[pool, buffer] -= 1
        if self.where[pool, buffer] is not Where.UNSURE:
            gone = RecycleError.UNKNOWN if self.where[pool, buffer] is Where.NONE else RecycleError.NOT_OUT
            assert error == gone, (
                f"cycle {self.cycle}: {pool, buffer} got {error} after it was {self.where[pool, buffer]}"
            )
        elif error == RecycleError.NONE:
            self.where[pool, buffer] = granted
        elif error == RecycleError.NOT_OUT and not self._doubts[pool, buffer]:
            self.where[pool, buffer] = Where.OUT

    def _granted(self, pool, buffer, source):
        self.where[pool, buffer] = Where.SENT if source == RecycleSource.TRANSMIT else Where.FREE

    def _judge_request(self, operation, pool, buffer):
        where = self.where.get((pool, buffer), None)
        if buffer >= self.config.pool_buffers:
            return {RecycleError.RANGE}, None
        state = {Where.NONE: BufferState.NONE, Where.OUT: BufferState.OUT}.get(where, BufferState.NIC)
        if operation == PoolCommand.QUERY:
            unsure = where is Where.UNSURE or (where is Where.OUT and self.cycle - self._young[pool, buffer] < YOUNG)
            return {RecycleError.NONE}, None if unsure else state
        if operation == PoolCommand.JOIN:
            if where is Where.NONE:
                self.where[pool, buffer] = Where.FREE
                return {RecycleError.NONE}, state
            return {RecycleError.JOINED}, None
        errors = self._errors(pool, buffer)
        if errors == {RecycleError.NONE}:
            self.where[pool, buffer] = Where.NONE
        elif len(errors) > 1:
            self._doubt(pool, buffer)
        return errors, None

    # What comes out

    def _watch(self, ctx):
        dut = self.dut
        if ctx.get(dut.popped.strobe) and ctx.get(dut.popped.valid):
            name = ctx.get(dut.popped.buffer.pool), ctx.get(dut.popped.buffer.id)
            assert self.where[name] is Where.FREE, f"cycle {self.cycle}: {name} was popped and is {self.where[name]}"
            self.where[name] = Where.AHEAD
            self.pops.append(name)
        for name in self.counted:
            self.counted[name] += ctx.get(getattr(dut, name).strobe)
        due = self._expected and self._expected[0][0] == self.cycle
        assert ctx.get(dut.verdict.strobe) == bool(due), f"cycle {self.cycle}"
        if due:
            _, (pool, buffer, source, given), errors = self._expected.popleft()
            claim, error = ctx.get(dut.verdict.claim), RecycleError(ctx.get(dut.verdict.error))
            assert (claim.pool, claim.id, claim.source) == (pool, buffer, source)
            assert error in errors, f"cycle {self.cycle}: {pool, buffer} got {error} and not {errors}"
            if len(errors) > 1:
                self._resolve(pool, buffer, error, Where.SENT if source == RecycleSource.TRANSMIT else Where.FREE)
            self.verdicts.append(((pool, buffer, source, given), error))
        if ctx.get(dut.commands.answer.strobe):
            (operation, pool, buffer), (errors, state) = self._asked
            error = RecycleError(ctx.get(dut.commands.answer.error))
            assert error in errors, f"cycle {self.cycle}: {operation} of {pool, buffer} got {error}, not {errors}"
            if operation == PoolCommand.REMOVE and len(errors) > 1:
                self._resolve(pool, buffer, error, Where.NONE)
            if state is not None:
                assert ctx.get(dut.commands.answer.state) == state
            self._asked = None

    def _check_end(self, ctx):
        """Nothing is on its way: what the FIFO counts is what the bench knows."""
        assert not self._expected
        for pool in range(self.config.pools):
            mine = [where for (p, _), where in self.where.items() if p == pool]
            assert ctx.get(self.dut.free[pool]) == mine.count(Where.FREE)
            assert ctx.get(self.dut.joined[pool]) == len(mine) - mine.count(Where.NONE)
