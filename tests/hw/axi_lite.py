# SPDX-License-Identifier: BSD-2-Clause
"""A register master for Amaranth's simulator: one access at a time, bounded in time, names from the register map."""

from collections.abc import Mapping
from typing import Any

from hw.abi.registers import Register, register_map
from hw.bus.axi4 import Response

PATIENCE = 2000  #: cycles


async def until(ctx: Any, condition: Any, what: str, cycles: int = PATIENCE) -> None:
    """Wait for a signal or expression to be true at a clock edge."""
    for _ in range(cycles):
        _, _, value = await ctx.tick().sample(condition)
        if value:
            return
    raise AssertionError(f"waited {cycles} cycles for {what}")


class RegisterMaster:
    """Drives an AXI4-Lite subordinate by register names.

    Parameters
    ----------
    bus : port with the signature of the subordinate
    queues, pools : queue pairs and pools of the map
    """

    def __init__(self, bus: Any, queues: int, pools: int = 0):
        self.bus = bus
        self.map = register_map(queues, pools=pools)

    async def write_at(self, ctx: Any, address: int, value: int, *, strobe: int = 0xFF) -> Response:
        """Write 64 bits; the response."""
        bus = self.bus
        ctx.set(bus.aw.payload.addr, address)
        ctx.set(bus.aw.valid, 1)
        ctx.set(bus.w.payload, {"data": value, "strb": strobe})
        ctx.set(bus.w.valid, 1)
        await until(ctx, bus.aw.ready & bus.w.ready, f"the write to {address:#x} to be taken")
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        ctx.set(bus.b.ready, 1)
        for _ in range(PATIENCE):
            _, _, valid, response = await ctx.tick().sample(bus.b.valid, bus.b.payload.resp)
            if valid:
                ctx.set(bus.b.ready, 0)
                return Response(response)
        raise AssertionError(f"waited {PATIENCE} cycles for the response to the write to {address:#x}")

    async def read_at(self, ctx: Any, address: int) -> tuple[int, Response]:
        """Read 64 bits; value and response."""
        bus = self.bus
        ctx.set(bus.ar.payload.addr, address)
        ctx.set(bus.ar.valid, 1)
        await until(ctx, bus.ar.ready, f"the read of {address:#x} to be taken")
        ctx.set(bus.ar.valid, 0)
        ctx.set(bus.r.ready, 1)
        for _ in range(PATIENCE):
            _, _, valid, value, response = await ctx.tick().sample(bus.r.valid, bus.r.payload.data, bus.r.payload.resp)
            if valid:
                ctx.set(bus.r.ready, 0)
                return value, Response(response)
        raise AssertionError(f"waited {PATIENCE} cycles for the data of the read of {address:#x}")

    async def write(
        self, ctx: Any, name: str, queue: int | None = None, *, of_pool: int | None = None, **fields: int
    ) -> Response:
        """Write a register by its fields, zero where not given."""
        word = self._registers(queue, of_pool)[name].pack(**fields)
        return await self.write_at(ctx, self.map.address(name, queue, pool=of_pool), word)

    async def read(self, ctx: Any, name: str, queue: int | None = None, *, of_pool: int | None = None) -> int:
        """Read a register that must answer OKAY."""
        value, response = await self.read_at(ctx, self.map.address(name, queue, pool=of_pool))
        assert response is Response.OKAY, f"read of {name} answered {response.name}"
        return value

    async def field(
        self, ctx: Any, name: str, field: str, queue: int | None = None, *, of_pool: int | None = None
    ) -> int:
        """Read one field."""
        return self._registers(queue, of_pool)[name].get(await self.read(ctx, name, queue, of_pool=of_pool), field)

    def _registers(self, queue: int | None, pool: int | None) -> Mapping[str, Register]:
        if pool is not None:
            return self.map.pool
        return self.map.port if queue is None else self.map.queue
