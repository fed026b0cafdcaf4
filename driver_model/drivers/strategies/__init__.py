# SPDX-License-Identifier: BSD-2-Clause
"""Buffer strategies: where a driver's receive buffers come from and go to. One file each."""

from inspect import isabstract
from types import MappingProxyType

from driver_model.drivers.strategies.base import NO_OPTIONS, BufferStrategy, PooledStrategy, PoolOptions, PostedStrategy
from driver_model.drivers.strategies.bypass import Bypass
from driver_model.drivers.strategies.copybreak import Copybreak
from driver_model.drivers.strategies.fragments import Fragments
from driver_model.drivers.strategies.hw_recycle import HwRecycle
from driver_model.drivers.strategies.page_flip import PageFlip
from driver_model.drivers.strategies.page_per_packet import PagePerPacket
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.drivers.strategies.page_pool_fragments import PagePoolFragments
from driver_model.own import is_own, load_own

STRATEGIES: MappingProxyType[str, type[BufferStrategy]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (PagePerPacket, PageFlip, Fragments, Copybreak, PagePoolStrategy, HwRecycle, Bypass)
    }
)


def hardware_pools(name: str) -> bool:
    """Whether the strategy of that name needs a pool of the device for each queue."""
    return issubclass(strategy(name), PooledStrategy)


def strategy(name: str, pool: PoolOptions = NO_OPTIONS) -> type[BufferStrategy]:
    """The strategy of that name, or one's own (``FILE.py:CLASS``); with pages cut into fragments if a pool is asked for
    that."""
    if name not in STRATEGIES and not is_own(name):
        raise ValueError(f"Buffer strategy must be one of {', '.join(STRATEGIES)}, or FILE.py:CLASS, not {name!r}")
    if pool.fragment_bytes:
        if name != PagePoolStrategy.name:
            raise ValueError(f"fragment_bytes are for strategy {PagePoolStrategy.name}, not {name!r}")
        return PagePoolFragments
    return _own(name) if is_own(name) else STRATEGIES[name]


def _own(name: str) -> type[BufferStrategy]:
    found = load_own(name)
    if not (isinstance(found, type) and issubclass(found, PostedStrategy | PooledStrategy)):
        raise ValueError(f"{name!r} must be a subclass of PostedStrategy or PooledStrategy, not {found!r}")
    if isabstract(found):
        raise ValueError(f"{name!r} must have the methods {', '.join(sorted(found.__abstractmethods__))}, too")
    return found
