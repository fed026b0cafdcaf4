# SPDX-License-Identifier: BSD-2-Clause
"""Moving payloads through streams in Amaranth benches; every wait is bounded and says what it waited for."""

from typing import Any

from amaranth.hdl import Value

BOUND = 5000


async def send(ctx: Any, port: Any, payload: Any, *, name: str = "stream", bound: int = BOUND) -> None:
    """Offer a payload (a dict of fields, or one value) until it is taken."""
    ctx.set(port.payload, payload)
    ctx.set(port.valid, 1)
    await until(ctx, port.ready, name=f"{name} to take {payload!r}", bound=bound)
    ctx.set(port.valid, 0)


async def receive(ctx: Any, port: Any, *, name: str = "stream", bound: int = BOUND) -> Any:
    """Take one payload."""
    ctx.set(port.ready, 1)
    (payload,) = await until(ctx, port.valid, port.payload, name=f"{name} to offer a payload", bound=bound)
    ctx.set(port.ready, 0)
    return payload


async def until(ctx: Any, condition: Value, *samples: Any, name: str, bound: int = BOUND) -> tuple[Any, ...]:
    """Wait for a clock edge with ``condition``; gives the samples of that edge."""
    for _ in range(bound):
        _, _, met, *values = await ctx.tick().sample(condition, *samples)
        if met:
            return tuple(values)
    raise AssertionError(f"Waited {bound} cycles for {name}")
