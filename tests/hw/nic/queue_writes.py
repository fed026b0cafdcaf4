# SPDX-License-Identifier: BSD-2-Clause
"""Register writes as the NIC's blocks hear them."""

from typing import Any

from hw.abi.registers import register_map


async def write_register(ctx: Any, port: Any, name: str, queue: int, **fields: int) -> None:
    """Broadcast one write to a queue pair's register on a QueueWrite; takes one cycle."""
    register = register_map(16).queue[name]
    ctx.set(port.queue, queue)
    ctx.set(port.offset, register.offset)
    ctx.set(port.data, register.pack(**fields))
    ctx.set(port.strobe, 1)
    await ctx.tick()
    ctx.set(port.strobe, 0)
