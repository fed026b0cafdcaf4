# SPDX-License-Identifier: BSD-2-Clause
"""Stand-ins for the blocks that commands and the leak report ask: in Python, with any delay."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

from hw.abi.pools import BufferState, PoolCommand, RecycleError

DELAYS = (1, 20)  #: cycles from a request to its answer, and to the next that is accepted


def serve(port: Any, answer: Callable[[Any], dict[str, Any]], rng: random.Random) -> Callable[[Any], Awaitable[None]]:
    """A background bench at the far end of a port of requests: ``answer`` gets a request, in the cycle in which it is
    answered, and returns the members of the answer. Fails if a second request comes before the answer."""

    async def bench(ctx: Any) -> None:
        while True:
            ctx.set(port.request.ready, 0)
            for _ in range(rng.randint(*DELAYS)):
                await ctx.tick()
            ctx.set(port.request.ready, 1)
            valid = False
            while not valid:
                _, _, valid, request = await ctx.tick().sample(port.request.valid, port.request.payload)
            ctx.set(port.request.ready, 0)
            for _ in range(rng.randint(*DELAYS) - 1):
                _, _, valid = await ctx.tick().sample(port.request.valid)
                assert not valid, "a request before the answer to the one before"
            for name, value in {"strobe": 1, **answer(request)}.items():
                ctx.set(getattr(port.answer, name), value)
            await ctx.tick()
            ctx.set(port.answer.strobe, 0)

    return bench


class Buffers:
    """The tracker's side of requests: where each buffer is, and what may be done to it.

    ``states`` by pool and id, of those that have joined; ``enabled`` and ``live`` are bits per pool.
    """

    def __init__(self, ids: int, enabled: int = ~0, live: int = ~0):
        self.ids = ids
        self.enabled, self.live = enabled, live
        self.states: dict[tuple[int, int], BufferState] = {}

    def answer(self, request: Any) -> dict[str, Any]:
        """Members of the answer to a request of the hardware."""
        error, state = self.do(PoolCommand(request.operation), request.pool, request.id)
        return {"error": error, "state": state}

    def do(self, operation: PoolCommand, pool: int, id: int) -> tuple[RecycleError, BufferState]:
        """Error, and the state before; it changes with JOIN and REMOVE."""
        state = self.states.get((pool, id), BufferState.NONE)
        bits = self.enabled if operation == PoolCommand.JOIN else self.live
        if not bits >> pool & 1:
            return RecycleError.POOL, state
        if id >= self.ids:
            return RecycleError.RANGE, BufferState.OUT
        if operation == PoolCommand.JOIN:
            if state != BufferState.NONE:
                return RecycleError.JOINED, state
            self.states[pool, id] = BufferState.NIC
        elif state == BufferState.NONE:
            return RecycleError.UNKNOWN, state
        elif operation == PoolCommand.REMOVE:
            if state != BufferState.OUT:
                return RecycleError.NOT_OUT, state
            del self.states[pool, id]
        return RecycleError.NONE, state
