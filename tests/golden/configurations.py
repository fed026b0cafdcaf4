# SPDX-License-Identifier: BSD-2-Clause
"""IOMMUs that are compared with the golden model."""

from types import MappingProxyType

from hw.config import CacheConfig, IommuConfig

_SMALLEST = CacheConfig(1, 1)

CONFIGURATIONS = MappingProxyType(
    {
        "whole": IommuConfig(),
        # Hardly anything fits, so everything is replaced all the time, also under a walk that uses it.
        "crowded": IommuConfig(
            tlb_4k=CacheConfig(2, 2),
            tlb_64k=_SMALLEST,
            tlb_2m=_SMALLEST,
            tlb_1g=_SMALLEST,
            walk_cache_1=CacheConfig(2, 1),
            walk_cache_2=_SMALLEST,
            walk_cache_3=_SMALLEST,
            tlb_index="hashed",
            replacement="random",
            contexts=2,
            walks=8,
        ),
        # The least of everything that can be left out.
        "least": IommuConfig(
            first_levels=3,
            second_levels=3,
            physical_bits=40,
            hardware_ad=False,
            ats=False,
            contexts=1,
            walks=1,
            writes=2,
            reads=1,
            counters=0,
            replacement="round_robin",
        ),
    }
)
