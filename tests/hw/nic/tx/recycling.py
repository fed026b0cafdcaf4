# SPDX-License-Identifier: BSD-2-Clause
"""Software's buffers, and who judges claims on them, in Python."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hw.abi.pools import RecycleError, RecycleSource
from hw.config import NicConfig

NONE, POOL, NOT_OUT, SEGMENT = (
    RecycleError.NONE.value,
    RecycleError.POOL.value,
    RecycleError.NOT_OUT.value,
    RecycleError.SEGMENT.value,
)
OTHERS = (RecycleSource.RETURN, RecycleSource.FILL, RecycleSource.COMMAND)


async def allow(ctx: Any, port: Any, queue: int, pools: int) -> None:
    """Software writes register TX_POOLS of a queue."""
    ctx.set(port.queue, queue)
    ctx.set(port.data, pools)
    ctx.set(port.at.tx_pools, 1)
    await ctx.tick()
    ctx.set(port.at.tx_pools, 0)


@dataclass(frozen=True)
class ClaimMade:
    """A claim as it was taken."""

    queue: int
    pool: int
    id: int
    error: int


@dataclass
class Judge:
    """Takes claims, and says ``latency`` cycles later what became of each: granted if the buffer is ``out``, which it
    is no more then. In all other cycles verdicts on other sources' claims come, granted and refused.

    ``stall`` is the chance, per cycle, that no claim is taken; none is while ``holds``.
    """

    config: NicConfig
    claims: Any
    verdict: Any
    latency: int = 2
    seed: int = 0
    stall: float = 0.0
    holds: bool = False
    out: set[tuple[int, int]] = field(default_factory=set)
    made: list[ClaimMade] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    offered_at: list[int] = field(default_factory=list)
    cycle: int = 0

    async def run(self, ctx: Any) -> None:
        """In the background."""
        rng = random.Random(f"judge {self.seed}")
        waiting: deque[tuple[int, int, ClaimMade]] = deque()  # the verdict's cycle, its error, and the claim
        offered = False
        while True:
            ctx.set(self.claims.ready, int(not self.holds and rng.random() >= self.stall))
            if waiting and waiting[0][0] == self.cycle:
                _, error, claim = waiting.popleft()
                self._say(ctx, RecycleSource.TRANSMIT, error, claim)
            else:
                self._say(ctx, rng.choice(OTHERS), rng.choice((NONE, NONE, NOT_OUT)), ClaimMade(0, 0, 0, 0))
            _, _, valid, ready, payload = await ctx.tick().sample(
                self.claims.valid, self.claims.ready, self.claims.payload
            )
            if valid and not offered:
                self.offered_at.append(self.cycle)
            offered = valid and not ready
            if valid and ready:
                assert payload.source == RecycleSource.TRANSMIT
                claim = ClaimMade(payload.queue, payload.pool, payload.id, payload.error.value)
                error = self._judge(claim)
                self.made.append(claim)
                self.errors.append(error)
                waiting.append((self.cycle + self.latency, error, claim))
            self.cycle += 1

    def _judge(self, claim: ClaimMade) -> int:
        if claim.error != NONE:
            return claim.error
        if (claim.pool, claim.id) not in self.out:
            return NOT_OUT
        self.out.remove((claim.pool, claim.id))
        return NONE

    def _say(self, ctx: Any, source: RecycleSource, error: int, claim: ClaimMade) -> None:
        ctx.set(self.verdict.strobe, 1)
        ctx.set(self.verdict.error, RecycleError(error))
        ctx.set(
            self.verdict.claim,
            {
                "pool": claim.pool,
                "id": claim.id,
                "queue": claim.queue,
                "source": source,
                "error": RecycleError(claim.error),
            },
        )
