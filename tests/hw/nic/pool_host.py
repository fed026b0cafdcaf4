# SPDX-License-Identifier: BSD-2-Clause
"""A whole NIC with pools, and software that knows which buffers are its own.

::

    host = PoolHost(seed=3, stall=0.2)

    async def bench(ctx):
        await host.bring_up(ctx, {0: 0, 1: 1})  # pools of the queues
        await host.join(ctx, 0, range(16))
        host.play(b"...")
        [(frame, ids)] = await host.frames(ctx, 0, 1)
        await host.give_back(ctx, 0, ids)

    host.run(bench)

Whatever a bench does, no byte is written to a buffer that software has or that has not joined, and no completion tells
of one: otherwise the bench fails at once.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from hw.abi.pools import BufferState, PoolCommand, PoolState, RecycleError, RecycleSource
from hw.abi.rings import TxDescriptorType
from hw.bus.axi4 import Response
from tests.hw.axi_lite import RegisterMaster
from tests.hw.nic.nic_host import FILL, QUEUE_BYTES, TX_FLAGS, TX_RING, NicHost

SIZE = 1024  #: bytes of a buffer
AREA = 64  #: buffers that may join of each of the two areas that a pool has in memory
POOL_BYTES = 2 * AREA * SIZE
PATIENCE = 4000
TAKEN = 255


class Result(NamedTuple):
    """Register RESULT."""

    id: int
    error: RecycleError
    state: BufferState
    queue: int
    age: int


class Misuse(NamedTuple):
    """Register MISUSE."""

    error: RecycleError
    source: RecycleSource
    id: int
    queue: int


class Counts(NamedTuple):
    """Where the buffers of a pool are."""

    free: int
    ahead: int
    outstanding: int
    joined: int


class _Received:
    """In place of the buffers that a queue was posted: those of its pool. They are software's when a completion has
    told of them."""

    def __init__(self, host: "PoolHost", pool: int):
        self._host, self._pool = host, pool
        self.ids: list[int] = []

    def pop(self, buffer_id: int) -> int:
        """A completion tells of a buffer; where it lies."""
        key = self._pool, buffer_id
        assert key in self._host.joined, f"a completion tells of buffer {key}, which has not joined"
        assert key not in self._host.owned, f"a completion tells of buffer {key}, which is software's"
        self._host.owned.add(key)
        self.ids.append(buffer_id)
        return self._host.joined[key]


class PoolHost(NicHost):
    """The bench; parameters are those of :class:`tests.hw.nic.nic_host.NicHost`.

    Attributes: ``joined`` addresses of buffers by (pool, id), ``owned`` those that software has, ``filled`` those that
    were written to since they were last handed back by a register, ``limits`` most of those that a pool may have.
    """

    def __init__(self, **changes: Any):
        small = {"pools": 2, "pool_buffers": 32, "recycle_ahead": 8, "fetch_depth": 8, "max_frame": 4096}
        small |= {"rx_buffer_bytes": 8192, "tx_buffer_bytes": 8192}
        super().__init__(**{**small, **changes})
        self.registers = RegisterMaster(self.nic.registers, self.config.queues, self.config.pools)
        self.joined: dict[tuple[int, int], int] = {}
        self.owned: set[tuple[int, int]] = set()
        self.filled: set[tuple[int, int]] = set()
        self.limits: dict[int, int] = {}
        self.pool_of: dict[int, int] = {}
        self._at: dict[int, tuple[int, int]] = {}
        self.memory.on_write = self._written

    def _written(self, address: int, data: bytes) -> None:
        self.writes.append((self.memory.cycle, address, data))
        if address < QUEUE_BYTES:
            key = self._at.get(address // SIZE * SIZE)
            assert key is not None, f"bytes were written to {address:#x}, where no buffer lies that has joined"
            assert key not in self.owned, f"bytes were written to buffer {key}, which is software's"
            self.filled.add(key)
            out, limit = sum(pool == key[0] for pool, _ in self.filled), self.limits.get(key[0])
            assert limit is None or out <= limit, f"{out} buffers of pool {key[0]} are out, with a limit of {limit}"

    # Registers of pools

    async def pool_write(self, ctx: Any, name: str, pool: int, **fields: int) -> None:
        """A write to a pool's page that must be accepted."""
        response = await self.registers.write(ctx, name, of_pool=pool, **fields)
        assert response is Response.OKAY, f"write of {name} of pool {pool} {fields} answered {response.name}"

    async def pool_fields(self, ctx: Any, name: str, pool: int) -> dict[str, int]:
        """All fields of a register of a pool."""
        word, register = await self.registers.read(ctx, name, of_pool=pool), self.registers.map.pool[name]
        return {field: register.get(word, field) for field in register.fields}

    async def counts(self, ctx: Any, pool: int) -> Counts:
        """Where buffers are; they must add up, so nothing may move."""
        buffers = await self.pool_fields(ctx, "buffers", pool)
        out = await self.pool_fields(ctx, "outstanding", pool)
        counts = Counts(buffers["free"], out["ahead"], out["outstanding"], buffers["joined"])
        joined = sum(key[0] == pool for key in self.joined)
        assert joined == counts.joined == counts.free + counts.ahead + counts.outstanding, f"pool {pool}: {counts}"
        return counts

    async def misuse(self, ctx: Any, pool: int) -> tuple[Misuse | None, int]:
        """The first offender since this was last asked, and how many there were since the pool was enabled."""
        fields = await self.pool_fields(ctx, "misuse", pool)
        refused = (await self.pool_fields(ctx, "misuse_count", pool))["refused"]
        await self.pool_write(ctx, "acknowledge", pool, misuse=1)
        error, source = RecycleError(fields["error"]), RecycleSource(fields["source"])
        return Misuse(error, source, fields["id"], fields["queue"]) if fields["valid"] else None, refused

    async def command(self, ctx: Any, pool: int, command: Any, buffer_id: int = 0, length: int = 0) -> Result:
        """Carry out a command: a :class:`hw.abi.pools.PoolCommand`, or a code that is none."""
        code = command.value if isinstance(command, PoolCommand) else command
        await self.pool_write(ctx, "command", pool, id=buffer_id, length=length, command=code)
        return await self.result(ctx, pool)

    async def result(self, ctx: Any, pool: int) -> Result:
        """What the last command came to."""
        for _ in range(PATIENCE):
            fields = await self.pool_fields(ctx, "result", pool)
            if not fields["busy"]:
                error, state = RecycleError(fields["error"]), BufferState(fields["state"])
                return Result(fields["id"], error, state, fields["queue"], fields["age"])
        raise AssertionError(f"{PATIENCE} reads of RESULT of pool {pool} did not see the end of the command")

    async def query(self, ctx: Any, pool: int, buffer_id: int) -> BufferState:
        """Where a buffer is."""
        return (await self.command(ctx, pool, PoolCommand.QUERY, buffer_id)).state

    # Lifecycle

    async def pool_state(self, ctx: Any, pool: int, state: PoolState) -> None:
        """Wait for a state of a pool."""
        for _ in range(100):
            found = PoolState((await self.pool_fields(ctx, "status", pool))["state"])
            if found is state:
                return
        counts = await self.pool_fields(ctx, "buffers", pool), await self.pool_fields(ctx, "outstanding", pool)
        raise AssertionError(f"pool {pool} did not become {state.name}, but is {found.name}: {counts}")

    async def enable(self, ctx: Any, pool: int, **control: int) -> None:
        """An empty pool."""
        await self.pool_write(ctx, "control", pool, enable=1, **control)
        self.forget(pool)
        await self.pool_state(ctx, pool, PoolState.ENABLED)

    async def drain(self, ctx: Any, pool: int) -> None:
        """Disable a pool of which nothing is anywhere but on its list."""
        await self.pool_write(ctx, "control", pool, enable=0)
        await self.pool_state(ctx, pool, PoolState.DISABLED)
        self.forget(pool)

    def forget(self, pool: int) -> None:
        """None of a pool's buffers may be written any more."""
        for known in (self.owned, self.filled):
            known.difference_update({key for key in known if key[0] == pool})
        self.joined = {key: address for key, address in self.joined.items() if key[0] != pool}
        self._at = {address: key for address, key in self._at.items() if key[0] != pool}

    async def join(self, ctx: Any, pool: int, ids: Iterable[int], *, area: int = 0, length: int = SIZE) -> None:
        """Buffers join."""
        for buffer_id in ids:
            address = pool * POOL_BYTES + (area * AREA + buffer_id) * SIZE
            self.joined[pool, buffer_id], self._at[address] = address, (pool, buffer_id)
            await self.pool_write(ctx, "buffer_address", pool, address=address)
            code = PoolCommand.JOIN.value
            await self.pool_write(ctx, "command", pool, id=buffer_id, length=length, command=code)
        result = await self.result(ctx, pool)
        assert (result.error, result.state) == (RecycleError.NONE, BufferState.NIC), result

    async def bring_up(self, ctx: Any, pools: dict[int, int], *, lifo: int = 0, **timeouts: int) -> None:
        """Enable all pools, and start all queues, those with a pool as ``pools`` says."""
        self.pool_of = pools
        for pool in range(self.config.pools):
            await self.enable(ctx, pool, lifo=lifo)
        await super().bring_up(ctx, buffers=0, **({"completion": 8} | timeouts))

    async def start(self, ctx: Any, number: int, *, directions=("rx", "tx"), buffers: int = 0, header_bytes: int = 0):
        """Start directions of a queue; TX may hand buffers back to all pools."""
        pool = self.pool_of.get(number)
        if "rx" in directions:
            await self.write(ctx, "rx_pool", number, **({} if pool is None else {"enable": 1, "pool": pool}))
        if "tx" in directions:
            await self.write(ctx, "tx_pools", number, pools=(1 << self.config.pools) - 1)
        await super().start(ctx, number, directions=directions, buffers=buffers, header_bytes=header_bytes)
        if pool is not None and "rx" in directions:
            self.queues[number].buffers = _Received(self, pool)

    async def stop(self, ctx: Any, direction: str, number: int) -> None:
        """Stop one direction of a queue."""
        await self.write(ctx, f"{direction}_control", number, enable=0)
        await self.stopped(ctx, direction, number)

    async def recover(self, ctx: Any, pool: int) -> set[int]:
        """Ask for each buffer that software does not have, and hand back those that are out: of their completions it
        will not hear any more."""
        lost = set()
        for key in sorted(self.joined.keys() - self.owned):
            if key[0] == pool and await self.query(ctx, pool, key[1]) is BufferState.OUT:
                lost.add(key[1])
        await self.give_back(ctx, pool, lost)
        return lost

    # Buffers

    async def frames(self, ctx: Any, number: int, count: int, patience: int = PATIENCE) -> list:
        """So many frames of a queue with a pool, waited for, each with the ids of its buffers."""
        found: list[tuple[bytes, list[int]]] = []
        queue = self.queues[number]
        for _ in range(patience):
            before = queue.received
            for frame, _ in self.poll(number):
                # Buffers are software's as soon as it looks at their completions, and those of a frame end with it.
                found.append((bytes(frame), queue.buffers.ids))
                queue.buffers.ids = []
                if len(found) == count:
                    break
            if queue.received != before:
                await self.ring_rx(ctx, number)
            if len(found) == count:
                return found
            await ctx.tick()
        raise AssertionError(f"waited {patience} cycles for {count} frames on queue {number}, got {len(found)}")

    def hear(self, number: int) -> list[tuple[bytes, list[int]]]:
        """All frames of a queue with a pool whose completions are there. Buffers of a frame of which some are missing
        are software's all the same."""
        found, queue = [], self.queues[number]
        for frame, _ in self.poll(number):
            found.append((bytes(frame), queue.buffers.ids))
            queue.buffers.ids = []
        return found

    def disown(self, pool: int, ids: Iterable[int]) -> None:
        """Software gives buffers away, in whatever way."""
        keys = {(pool, buffer_id) for buffer_id in ids}
        self.owned -= keys
        self.filled -= keys

    async def give_back(self, ctx: Any, pool: int, ids: Iterable[int]) -> None:
        """Hand buffers back, four with each write of a register."""
        ids = list(ids)
        for start in range(0, len(ids), 4):
            some = ids[start : start + 4]
            self.disown(pool, some)
            fields = {f"id{place}": buffer_id for place, buffer_id in enumerate(some)}
            await self.pool_write(ctx, f"return{len(some)}", pool, **fields)

    async def fill(self, ctx: Any, number: int, ids: Iterable[int]) -> None:
        """Hand buffers back by fill descriptors, whose address is none that may be written."""
        queue = self.queues[number]
        for buffer_id in ids:
            self.disown(self.pool_of[number], [buffer_id])
            self._store(queue.ring(0, queue.posted), FILL.pack(address=queue.base, length=64, buffer_id=buffer_id))
            queue.posted += 1
        await self.ring_rx(ctx, number)

    async def forward(self, ctx: Any, number: int, pool: int, frames: Iterable, *, address: int | None = None, **more):
        """Send frames from a pool's buffers, each a list of (id, bytes of it), and hand these back with that."""
        queue = self.queues[number]
        for frame in frames:
            for place, (buffer_id, length) in enumerate(frame):
                last = place == len(frame) - 1
                flags = TX_FLAGS.const({"end_of_packet": last, "recycle": 1, "report": last} | more)
                where = self.joined.get((pool, buffer_id), queue.base + 0x28000) if address is None else address
                entry = TX_RING.pack(
                    address=where,
                    length=length,
                    buffer_id=buffer_id,
                    type=TxDescriptorType.DATA.value,
                    pool=pool,
                    flags=flags.as_bits(),
                )
                self.disown(pool, [buffer_id])
                self._store(queue.ring(2, queue.sent), entry)
                queue.sent += 1
        await self.ring_tx(ctx, number)

    async def rest(self, ctx: Any, cycles: int = 150) -> None:
        """Let everything on its way reach its end."""
        await self.until(ctx, lambda: self.wire_empty, "the wire to be empty")
        await ctx.tick().repeat(cycles)
