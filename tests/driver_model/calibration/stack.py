# SPDX-License-Identifier: BSD-2-Clause
"""The stack under a flood, of kernels whose driver called build_skb and that freed each sk_buff to the slab."""

from collections.abc import Callable, Mapping
from typing import Any

from driver_model.drivers.strategies.base import PoolOptions
from driver_model.net.filter import FilterDrop
from driver_model.net.forward import IpForward
from driver_model.net.skb.policy import NapiCache, SkbPolicy
from driver_model.net.stack import Handler
from driver_model.net.xdp_programs import NO_PROGRAM
from tests.driver_model.calibration.flood import flood
from tests.driver_model.calibration.loop import Replay
from tests.driver_model.stack_bench import StackBench

POLICY = SkbPolicy(napi_cache=NapiCache.OFF)
UNRECYCLED = PoolOptions(skb_recycles=False, bulk_refill=False)  #: page_pool of Linux 4.18 to 5.12
MEMORY = 32 << 20


def stack_bench(handler: Callable[[StackBench, int], Handler | None], **options: Any) -> StackBench:
    """A core whose stack hands packets to a handler; no XDP program is attached."""
    options = {"verdict": NO_PROGRAM, "skb_policy": POLICY, "memory": MEMORY, "checked": False} | options
    return StackBench("page_pool", handler, **options)


REPLAYS: Mapping[str, Replay] = {
    "iptables, drop in the raw table, one core": lambda profile: (
        flood(stack_bench(lambda bench, core: FilterDrop(), profile=profile)).ps
    ),
    "Linux forwarding, one route, one core": lambda profile: (
        flood(stack_bench(lambda bench, core: IpForward(bench.routes[core]), profile=profile, pool=UNRECYCLED)).ps
    ),
}
