# SPDX-License-Identifier: BSD-2-Clause
"""mvneta under a flood, and what each function takes of a packet: as a profiler counts, by the operations in it."""

from collections.abc import Mapping
from fractions import Fraction
from functools import cache

from driver_model.cpu.core import LINE
from driver_model.cpu.profile import Profile
from driver_model.drivers.strategies.base import PoolOptions
from driver_model.memory.dma.api import DmaDirection, dma_map_page, dma_sync_single_for_cpu
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.flood import Flooded, flood
from tests.driver_model.calibration.loop import Replay, Turn, loop
from tests.driver_model.calibration.stack import UNRECYCLED, stack_bench

BUFFER_LINES = 55
#: Functions that the model has operations of their own for, by the beginnings of these operations' names.
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "mvneta, kmem_cache_alloc": ("slab.alloc",),
    "mvneta, kmem_cache_free": ("slab.free",),
    "mvneta, GRO and __netif_receive_skb_core": ("net.receive",),
    "mvneta, get_page_from_freelist": ("page.alloc", "page.rmqueue"),
    "mvneta, free_unref_page": ("page.free",),
    "mvneta, page_pool_release_page": ("page_pool.slow",),
}


@cache
def stack_drop(profile: Profile) -> Flooded:
    """No protocol is registered for the frames, and their pages are not recycled."""
    return flood(stack_bench(lambda bench, core: None, profile=profile, pool=UNRECYCLED))


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


def lines_invalidated(profile: Profile) -> Fraction:
    """That kernel invalidated a whole buffer before the device got it, and a line after. Kernels since 2022, and the
    model, clean before, so those lines are invalidated here as the latter is: for the CPU, beyond one more line."""

    def sync(lines: int) -> Fraction:
        def prepare(bench: Bench) -> Turn:
            dev = bench.host.devices[0]
            page = dev.pages.alloc_pages()
            assert page is not None
            dma_address = dma_map_page(dev, page, 0, page.size, DmaDirection.FROM_DEVICE)
            return lambda: dma_sync_single_for_cpu(dev, dma_address, lines * LINE, DmaDirection.FROM_DEVICE)

        return loop(prepare)(profile)

    return sync(BUFFER_LINES + 2) - sync(1)


def lines_cleaned(profile: Profile) -> Fraction:
    return xdp_drop(profile, sync_received=False).ps - xdp_drop(profile, sync_received=True).ps


REPLAYS: Mapping[str, Replay] = {
    **{name: function(*operations) for name, operations in FUNCTIONS.items()},
    "mvneta, eth_type_trans": eth_type_trans,
    "mvneta, invalidation": lines_invalidated,
    "mvneta, 54 more lines cleaned": lines_cleaned,
    "mvneta, drop in the stack, pages not recycled": lambda profile: stack_drop(profile).ps,
    "mvneta, XDP_DROP, sync of the frame's length": lambda profile: xdp_drop(profile, sync_received=True).ps,
    "mvneta, XDP_DROP, sync of the whole buffer": lambda profile: xdp_drop(profile, sync_received=False).ps,
}
