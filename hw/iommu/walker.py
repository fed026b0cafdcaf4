# SPDX-License-Identifier: BSD-2-Clause
"""Walks of the device directory and of both stages' tables, many at once."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import AXI4Signature
from hw.config import IommuConfig
from hw.iommu.interfaces import (
    ContextFill,
    ContextLookup,
    Directory,
    TlbFill,
    WalkCacheFill,
    WalkCacheLookup,
    WalkEvent,
)
from hw.iommu.walk_state import FinishSignature, walk_starts


class Walker(wiring.Component):
    """Does the walks that the walk table starts: "Process to translate an IOVA" of the specification (2.3).

    Ports
    -----
    start : walks to be done, at most ``config.walks`` at a time
    finish : the end of each
    directory : register ddtp
    contexts, context_fill : the cache of device contexts
    walk_cache, walk_cache_fill : the caches of non-leaf entries
    tlb_fill : the IOTLB
    invalidating : an invalidation is offered to the caches
    event : for the performance counters
    axi : reads, and exclusive accesses; ID is the walk's number
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "start": In(walk_starts(config)),
                "finish": Out(FinishSignature(config)),
                "directory": In(Directory),
                "contexts": Out(ContextLookup()),
                "context_fill": Out(ContextFill()),
                "walk_cache": Out(WalkCacheLookup()),
                "walk_cache_fill": Out(WalkCacheFill()),
                "tlb_fill": Out(TlbFill()),
                "invalidating": In(1),
                "event": Out(WalkEvent),
                "axi": Out(AXI4Signature(64)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        return Module()
