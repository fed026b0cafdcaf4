# SPDX-License-Identifier: BSD-2-Clause
"""Clearing an SKB: what one takes that is made and freed, beyond what it takes without."""

from collections.abc import Mapping
from fractions import Fraction

from driver_model.cpu.profile import Profile
from driver_model.net.skb.policy import Clearing, SkbPolicy
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.loop import Replay, Turn, loop


def made(clearing: Clearing, *, goes_up: bool) -> Replay:
    """An SKB is made and freed; ``goes_up``: the stack has all of it cleared."""

    def prepare(bench: Bench) -> Turn:
        softnet = bench.host.softnets[0]

        def turn() -> None:
            skb = softnet.skbs.alloc_skb(64)
            assert skb is not None
            if goes_up:
                softnet.skbs.finish_clearing(skb)
            softnet.freeing.consume_skb(skb)

        return turn

    return loop(prepare, skb_policy=SkbPolicy(clearing=clearing))


def cleared(clearing: Clearing) -> Replay:
    def replay(profile: Profile) -> Fraction:
        return made(clearing, goes_up=True)(profile) - made(Clearing.DELAYED, goes_up=False)(profile)

    return replay


REPLAYS: Mapping[str, Replay] = {
    "SKB clear, 256 bytes, memset": cleared(Clearing.MEMSET),
    "SKB clear, 256 bytes, MOVQ": cleared(Clearing.MOVQ),
    "SKB clear, 256 bytes, AVX2": cleared(Clearing.AVX2),
    "SKB clear, by sections of 64 bytes": cleared(Clearing.SECTION),
}
