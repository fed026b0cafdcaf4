# SPDX-License-Identifier: BSD-2-Clause
"""Loops of pages and slab objects: what is refused, and that a shared cache is shared as asked."""

from typing import Any

import pytest

from sim.bulk.loops import LoopRun, run_loop, share_cache
from sim.software import Software


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"what": "skbs"}, "what must be one of pages, slab, not 'skbs'"),
        ({"way": "list"}, "way of slab must be one of looped, object_by_object, detached, not 'list'"),
        ({"count": 0}, "count must be an integer in 1..4096, not 0"),
        ({"profile": "z80"}, "profile must be one of .*e5-1650v4.*, not 'z80'"),
        ({"others_leave": (32,)}, "others_leave must be in 0..31, not 32"),
        ({"what": "pages", "way": "array", "others_leave": (1,)}, "others_leave must be empty for pages, not"),
    ],
)
def test_refusals_say_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoopRun(**{"what": "slab", "way": "looped", "count": 1, "profile": "i7-4790k"} | values)


def test_detached_freelists_meet_the_slow_path_once_a_slab() -> None:
    by_object, detached = (
        run_loop(LoopRun("slab", way, 64, "i7-4790k")).cycles for way in ("object_by_object", "detached")
    )
    assert by_object > 2 * detached


def test_others_leave_so_many_objects_in_each_slab() -> None:
    software = Software("i7-4790k", 8 << 20)
    cache = software.host.slab_caches.kmem_cache_create("shared", 256, 64)
    held = software.run(lambda: share_cache(software.host.slabs[0], cache, (31, 5)))
    assert len(held) == 1 + 27
    assert sorted(len(slab.freelist) for slab in cache.partial) == [5, 31]
