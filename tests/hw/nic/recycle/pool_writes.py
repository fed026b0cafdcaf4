# SPDX-License-Identifier: BSD-2-Clause
"""Writes to the registers of pools as the blocks of recycling hear them."""

from typing import Any

from hw.abi.pools import MAX_POOLS
from hw.abi.registers import register_map

REGISTERS = register_map(1, pools=MAX_POOLS).pool


def begin_write(ctx: Any, port: Any, name: str, pool: int, **fields: int) -> None:
    """Put one write to a pool's register on a PoolWrite, until :func:`end_write`."""
    ctx.set(port.pool, pool)
    ctx.set(port.data, REGISTERS[name].pack(**fields))
    ctx.set(port.at, {name: 1})


def end_write(ctx: Any, port: Any) -> None:
    """No register is written any more."""
    ctx.set(port.at, {})


async def write_register(ctx: Any, port: Any, name: str, pool: int, **fields: int) -> None:
    """Broadcast one write to a pool's register on a PoolWrite; takes one cycle."""
    begin_write(ctx, port, name, pool, **fields)
    await ctx.tick()
    end_write(ctx, port)
