# SPDX-License-Identifier: BSD-2-Clause
"""mvneta under a flood, and what each function takes of a packet: as a profiler counts, by the operations in it."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache

from driver_model.cpu.profile import Profile
from driver_model.drivers.strategies.base import PoolOptions
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.flood import Flooded, flood
from tests.driver_model.calibration.loop import Replay
from tests.driver_model.calibration.stack import UNRECYCLED, stack_bench

#: Functions that the model has operations of their own for, by the beginnings of these operations' names.
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "mvneta, invalidation": ("dma.cache_invalidate_line",),
    "mvneta, kmem_cache_alloc": ("slab.alloc",),
    "mvneta, kmem_cache_free": ("slab.free",),
    "mvneta, GRO and __netif_receive_skb_core": ("net.receive",),
    "mvneta, get_page_from_freelist": ("page.alloc", "page.rmqueue"),
    "mvneta, free_unref_page": ("page.free",),
    "mvneta, page_pool_release_page": ("page_pool.slow",),
}


@cache
def stack_drop(profile: Profile) -> Flooded:
    """No protocol is registered for the frames, and their pages are not recycled. The kernel of that time invalidates
    what a device is to write, and no XDP program is attached that could send from there."""
    pool = replace(UNRECYCLED, from_device=True)
    bench = stack_bench(lambda bench, core: None, profile=profile, pool=pool)
    assert bench.core.cache is not None
    bench.core.cache.discards = True
    return flood(bench)


@cache
def xdp_drop(profile: Profile, *, sync_received: bool) -> Flooded:
    """A program drops the frames, whose pages are synced as far as they were filled, or all of them."""
    pool = PoolOptions(sync_received=sync_received)
    return flood(Bench("page_pool", "drop", checked=False, profile=profile, pool=pool))


def function(*operations: str) -> Replay:
    """A function's part in a packet that the stack drops."""

    def replay(profile: Profile) -> Fraction:
        spent = stack_drop(profile).operations
        return sum((ps for name, ps in spent.items() if name.startswith(operations)), Fraction(0))

    return replay


def eth_type_trans(profile: Profile) -> Fraction:
    """It is the first to touch the frame: whatever misses a packet takes that no XDP program touches are not its."""
    spent, untouched = stack_drop(profile).operations, xdp_drop(profile, sync_received=True).operations
    return spent["skb.eth_type_trans"] + spent["cache.miss"] - untouched["cache.miss"]


def lines_cleaned(profile: Profile) -> Fraction:
    return xdp_drop(profile, sync_received=False).ps - xdp_drop(profile, sync_received=True).ps


REPLAYS: Mapping[str, Replay] = {
    **{name: function(*operations) for name, operations in FUNCTIONS.items()},
    "mvneta, eth_type_trans": eth_type_trans,
    "mvneta, 54 more lines cleaned": lines_cleaned,
    "mvneta, drop in the stack, pages not recycled": lambda profile: stack_drop(profile).ps,
    "mvneta, XDP_DROP, sync of the frame's length": lambda profile: xdp_drop(profile, sync_received=True).ps,
    "mvneta, XDP_DROP, sync of the whole buffer": lambda profile: xdp_drop(profile, sync_received=False).ps,
}
