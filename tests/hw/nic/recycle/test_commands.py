# SPDX-License-Identifier: BSD-2-Clause
"""PoolCommands: what each command asks of the other blocks, and what software reads of it."""

import random
from collections import Counter

import pytest

from hw.abi.pools import BufferState, PoolCommand, RecycleError
from hw.config import preset
from hw.nic.recycle.commands import PoolCommands
from tests.hw.block_bench import BlockBench
from tests.hw.nic.recycle.pool_writes import REGISTERS, write_register
from tests.hw.nic.recycle.standins import DELAYS, Buffers, serve

POOLS, IDS = 3, 16
NONE, NIC, OUT = BufferState
JOIN, REMOVE, TAKE, QUERY, OVERDUE = list(PoolCommand)[1:]
LONGEST = 9 + 3 * 2 * DELAYS[1]  # cycles of a command once it is its turn
OWNER, AGE = 7, 123


class Bench(BlockBench):
    """Commands with stand-ins for all that they ask. ``log`` has what they did, in order; ``refused`` the misuse."""

    def __init__(self, seed=0):
        self.dut = PoolCommands(preset("10g", pools=POOLS, pool_buffers=IDS))
        self.rng = random.Random(seed)
        self.buffers = Buffers(IDS)
        self.overdue = []  # pools and ids
        self.log, self.refused, self.table = [], [], {}

    async def set_up(self):
        self.ctx.set(self.dut.enabled, ~0)
        self.ctx.set(self.dut.live, ~0)

    def stand_ins(self):
        answers = {"requests": self._request, "take": self._take, "owners": self._owner}
        return [*(serve(getattr(self.dut, port), answer, self.rng) for port, answer in answers.items()), self._watch]

    def _request(self, request):
        answer = self.buffers.answer(request)
        self.log.append((PoolCommand(request.operation), request.pool, request.id))
        if request.operation == JOIN and answer["error"] == RecycleError.NONE:
            assert (request.pool, request.id) in self.table, "joined without an entry in the pool table"
        return answer

    def _take(self, request):
        self.log.append((TAKE, request.pool))
        for (pool, id), state in self.buffers.states.items():
            if pool == request.pool and state == NIC:
                self.buffers.states[pool, id] = OUT
                return {"empty": 0, "id": id}
        return {"empty": 1, "id": 5}

    def _owner(self, request):
        pool, id = request.buffer.pool, request.buffer.id
        self.log.append((OVERDUE if request.search else "owner", pool, id))
        found = [i for p, i in sorted(self.overdue) if p == pool and i >= id] if request.search else [id]
        return {"found": bool(found), "id": found[0] if found else 9, "owner": OWNER, "age": AGE}

    async def _watch(self, ctx):
        table, refused = self.dut.table, self.dut.refused
        while True:
            _, _, wrote, buffer, entry, strobe, *misuse = await ctx.tick().sample(
                table.strobe, table.buffer, table.entry, refused.strobe, refused.pool, refused.id, refused.error
            )
            if wrote:
                name = (buffer.pool, buffer.id)
                assert name not in self.buffers.states, f"entry of {name}, which has joined, overwritten"
                self.table[name] = (entry.address, entry.length)
                self.log.append(("table", *name))
            if strobe:
                self.refused.append(tuple(misuse))

    async def begin(self, command, id=0, pool=1, length=2048, address=None):
        if address is not None:
            await write_register(self.ctx, self.dut.write, "buffer_address", pool, address=address)
        code = getattr(command, "value", command)
        await write_register(self.ctx, self.dut.write, "command", pool, command=code, id=id, length=length)
        assert self.ctx.get(self.dut.busy) >> pool & 1
        assert self.read(pool)["busy"]

    def read(self, pool):
        """Fields of register RESULT."""
        word, register = self.ctx.get(self.dut.result[pool].as_value()), REGISTERS["result"]
        return {name: register.get(word, name) for name in register.fields}

    async def end(self, pool=1, within=LONGEST + POOLS):
        """RESULT when it is not busy any more: error, state, id, queue and age."""
        for _ in range(within):
            if not self.ctx.get(self.dut.busy) >> pool & 1:
                result = self.read(pool)
                assert not result["busy"]
                fields = (result[name] for name in ("id", "queue", "age"))
                return RecycleError(result["error"]), BufferState(result["state"]), *fields
            await self.ctx.tick()
        raise AssertionError(f"pool {pool} still busy after {within} cycles")

    async def do(self, command, id=0, pool=1, **how):
        await self.begin(command, id, pool, **how)
        return await self.end(pool)


@pytest.fixture
def bench():
    return Bench()


def test_join_writes_the_table_before_the_id_is_free(bench):
    async def run(b):
        address = 0xFEDC_BA98_7654_3210
        assert await b.do(JOIN, 3, length=0xFFFF, address=address) == (RecycleError.NONE, NIC, 3, 0, 0)
        assert b.log == [(QUERY, 1, 3), ("table", 1, 3), (JOIN, 1, 3)]
        assert await b.do(JOIN, 4, length=1) == (RecycleError.NONE, NIC, 4, 0, 0)
        assert await b.do(JOIN, 3, pool=2) == (RecycleError.NONE, NIC, 3, 0, 0)
        assert b.table == {(1, 3): (address, 0xFFFF), (1, 4): (address, 1), (2, 3): (0, 2048)}
        assert b.refused == []

    bench.run(run)


@pytest.mark.parametrize("state", [NIC, OUT])
def test_join_of_what_has_joined_leaves_its_entry(bench, state):
    async def run(b):
        b.buffers.states[1, 3] = state
        assert await b.do(JOIN, 3) == (RecycleError.JOINED, state, 3, 0, 0)
        assert b.log == [(QUERY, 1, 3)]
        assert b.refused == [(1, 3, RecycleError.JOINED)]

    bench.run(run)


@pytest.mark.parametrize("command", [JOIN, REMOVE, QUERY, OVERDUE])
@pytest.mark.parametrize("id", [IDS, 0xFFFF])
def test_an_id_out_of_range_is_refused(bench, command, id):
    async def run(b):
        assert await b.do(command, id) == (RecycleError.RANGE, NONE, id, 0, 0)
        assert b.refused == [(1, id, RecycleError.RANGE)]
        assert b.table == {}

    bench.run(run)


@pytest.mark.parametrize("command", [JOIN, REMOVE, QUERY, TAKE, OVERDUE])
@pytest.mark.parametrize("draining", [True, False])
def test_commands_of_pools_that_are_not_enabled(bench, command, draining):
    """DRAINING, all but JOIN and TAKE are allowed."""

    async def run(b):
        b.buffers.states |= {(1, 3): NIC, (1, 4): OUT}
        b.overdue.append((1, 4))
        b.buffers.enabled = 0b101
        b.buffers.live = 0b111 if draining else 0b101
        b.ctx.set(b.dut.enabled, b.buffers.enabled)
        b.ctx.set(b.dut.live, b.buffers.live)
        id = 5 if command == JOIN else 4
        error, state, *_ = await b.do(command, id)
        refused = not draining or command in (JOIN, TAKE)
        assert error == (RecycleError.POOL if refused else RecycleError.NONE)
        assert state == (OUT if command in (QUERY, OVERDUE) and not refused else NONE)
        assert b.refused == ([(1, id, RecycleError.POOL)] if refused else [])
        assert b.buffers.states[1, 3] == NIC

    bench.run(run)


def test_join_of_no_bytes_and_commands_that_do_not_exist(bench):
    async def run(b):
        assert await b.do(JOIN, 3, length=0) == (RecycleError.LENGTH, NONE, 3, 0, 0)
        unknown = [0, *range(6, 16)]
        for code in unknown:
            assert await b.do(code, 3) == (RecycleError.COMMAND, NONE, 3, 0, 0)
        assert [error for _, _, error in b.refused] == [RecycleError.LENGTH] + len(unknown) * [RecycleError.COMMAND]
        assert b.log == []

    bench.run(run)


def test_remove_query_take_and_overdue_tell_what_software_must_know(bench):
    async def run(b):
        b.buffers.states |= {(1, 3): NIC, (1, 4): OUT}
        assert await b.do(QUERY, 3) == (RecycleError.NONE, NIC, 3, 0, 0)
        assert await b.do(QUERY, 4) == (RecycleError.NONE, OUT, 4, OWNER, AGE)
        assert await b.do(QUERY, 5) == (RecycleError.UNKNOWN, NONE, 5, 0, 0)
        assert await b.do(REMOVE, 3) == (RecycleError.NOT_OUT, NIC, 3, 0, 0)
        assert await b.do(REMOVE, 4) == (RecycleError.NONE, NONE, 4, 0, 0)
        assert await b.do(TAKE, 9) == (RecycleError.NONE, OUT, 3, 255, 0)
        assert await b.do(TAKE, 9) == (RecycleError.EMPTY, NONE, 9, 0, 0)
        assert await b.do(OVERDUE, 2) == (RecycleError.EMPTY, NONE, 2, 0, 0)
        b.overdue += [(0, 2), (1, 3), (1, 8)]
        assert await b.do(OVERDUE, 2) == (RecycleError.NONE, OUT, 3, OWNER, AGE)
        assert await b.do(OVERDUE, 4) == (RecycleError.NONE, OUT, 8, OWNER, AGE)
        assert b.refused == [(1, 5, RecycleError.UNKNOWN), (1, 3, RecycleError.NOT_OUT)]

    bench.run(run)


@pytest.mark.parametrize("command", [JOIN, REMOVE, TAKE, QUERY, OVERDUE])
def test_a_command_that_waits_while_its_pool_begins_anew_is_refused(bench, command):
    async def run(b):
        b.buffers.states |= {(0, 2): OUT, (1, 3): OUT, (1, 4): NIC}
        b.overdue.append((1, 3))
        await b.begin(QUERY, 2, pool=0)
        await b.begin(command, 5 if command is JOIN else 3)
        b.ctx.set(b.dut.clear, 2)
        await b.ctx.tick()
        b.ctx.set(b.dut.clear, 0)
        assert b.read(0)["busy"], "pool 0's command is to take longer than that"
        id = 5 if command is JOIN else 3
        assert await b.end(1, POOLS * (LONGEST + POOLS)) == (RecycleError.POOL, NONE, id, 0, 0)
        assert {each[1] for each in b.log} == {0}
        assert b.refused == [(1, id, RecycleError.POOL)]
        assert (await b.do(JOIN, 5))[:2] == (RecycleError.NONE, NIC)

    bench.run(run)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wait", range(1, LONGEST, 2))
def test_nothing_joins_by_a_command_of_long_before(seed, wait):
    """JOIN is in hand when the pool begins anew: the tracker is asked for it soon, or not at all."""
    bench = Bench(seed)

    async def run(b):
        await b.begin(JOIN, 5)
        await b.ctx.tick().repeat(wait)
        b.ctx.set(b.dut.clear, 2)
        await b.ctx.tick()
        b.ctx.set(b.dut.clear, 0)
        await b.ctx.tick().repeat(2 + 2 * DELAYS[1])
        before = (JOIN, 1, 5) in b.log
        if b.read(1)["busy"]:
            await b.end(1)
        assert ((JOIN, 1, 5) in b.log) == before

    bench.run(run)


def test_query_that_tells_of_no_buffer_by_its_state_alone(bench):
    """A tracker may answer so; JOIN takes it for an id that is free to join."""

    async def run(b):
        honest = b.buffers.do

        def do(operation, pool, id):
            error, state = honest(operation, pool, id)
            return RecycleError.NONE if (operation, state) == (QUERY, NONE) else error, state

        b.buffers.do = do
        assert await b.do(QUERY, 4) == (RecycleError.NONE, NONE, 4, 0, 0)
        assert await b.do(JOIN, 4) == (RecycleError.NONE, NIC, 4, 0, 0)
        assert (1, 4) in b.table

    bench.run(run)


def test_pools_take_turns(bench):
    async def run(b):
        for round in range(4):
            for pool in range(POOLS):
                await b.begin(JOIN, round, pool)
            for pool in (2, 1, 0) if round % 2 else (0, 1, 2):
                assert (await b.end(pool, POOLS * (LONGEST + POOLS)))[:2] == (RecycleError.NONE, NIC)
        assert len(b.buffers.states) == 4 * POOLS
        served = [entry[1] for entry in b.log if entry[0] == JOIN]
        assert all(set(served[i : i + POOLS]) == set(range(POOLS)) for i in range(0, len(served), POOLS))

    bench.run(run)


def test_random_commands_of_all_pools():
    """Each pool's results are those of its commands, one after the other, whatever the others do."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    bench = Bench(seed)

    def expected(word, states, joined):
        """Error and state of a command, from what was so before it."""
        command, id, length = word
        state = states.get(id, NONE)
        if command == JOIN and length == 0:
            return RecycleError.LENGTH, NONE
        if command == TAKE:
            free = any(s == NIC for s in states.values())
            return (RecycleError.NONE, OUT) if free else (RecycleError.EMPTY, NONE)
        if id >= IDS:
            return RecycleError.RANGE, NONE
        if command == JOIN:
            return (RecycleError.JOINED, state) if state != NONE else (RecycleError.NONE, NIC)
        if state == NONE:
            return RecycleError.UNKNOWN, NONE
        if command == REMOVE:
            return (RecycleError.NONE, NONE) if state == OUT else (RecycleError.NOT_OUT, state)
        return RecycleError.NONE, state

    async def run(b):
        refused, words = [], {}
        for _ in range(1000):
            pool = b.rng.randrange(POOLS)
            if pool in words:
                error, state, id, *_ = await b.end(pool, POOLS * (LONGEST + POOLS))
                word, states = words.pop(pool)
                assert (error, state) == expected(word, states, b.table), word
                assert id == word[1] or (word[0], error) == (TAKE, RecycleError.NONE)
                if error not in (RecycleError.NONE, RecycleError.EMPTY):
                    refused.append((pool, word[1], error))
            id, length = b.rng.randrange(IDS + 2), b.rng.choice((0, 1, 2048))
            word = (b.rng.choice((JOIN, JOIN, REMOVE, REMOVE, TAKE, QUERY)), id, length)
            words[pool] = (word, {i: state for (p, i), state in b.buffers.states.items() if p == pool})
            await b.begin(word[0], id, pool, length=length, address=id << 12)
        for pool in words:
            await b.end(pool, POOLS * (LONGEST + POOLS))
        assert len({error for _, _, error in refused}) == 5
        assert Counter(refused) <= Counter(b.refused)
        assert len(b.refused) <= len(refused) + POOLS
        assert all(address == id << 12 for (_, id), (address, _) in b.table.items())

    bench.run(run)
