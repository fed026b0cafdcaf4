# SPDX-License-Identifier: BSD-2-Clause
"""Register writes as the NIC's blocks hear them."""

from typing import Any

from hw.abi.registers import register_map


def begin_write(ctx: Any, port: Any, name: str, queue: int, **fields: int) -> None:
    """Put one write to a queue pair's register on a QueueWrite, until :func:`end_write`."""
    ctx.set(port.queue, queue)
    ctx.set(port.data, register_map(16).queue[name].pack(**fields))
    ctx.set(port.at, {name: 1})


def end_write(ctx: Any, port: Any) -> None:
    """No register is written any more."""
    ctx.set(port.at, {})


async def write_register(ctx: Any, port: Any, name: str, queue: int, **fields: int) -> None:
    """Broadcast one write to a queue pair's register on a QueueWrite; takes one cycle."""
    begin_write(ctx, port, name, queue, **fields)
    await ctx.tick()
    end_write(ctx, port)
