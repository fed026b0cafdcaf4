# SPDX-License-Identifier: BSD-2-Clause
"""A count of everything that a page_pool has, for tests and for the end of a run."""

from collections.abc import Iterable

from driver_model.memory.page_pool.params import PP_ALLOC_CACHE_SIZE
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.pages.page import Page


def page_pool_audit(pool: PagePool, posted: Iterable[Page] = (), held: Iterable[Page] = ()) -> list[str]:
    """What is wrong with a pool whose pages the device has (``posted``), and drivers, stack and applications have
    (``held``; a page of several fragments more than once if one likes). Nothing, if the list is empty.

    With a checker, a page that is nowhere is named, and who took it last.
    """
    wrong: list[str] = []
    places: dict[str, list[Page]] = {
        "cache": pool.alloc_cache,
        "ring": list(pool.ring),
        "posted": list(posted),
        "held": list(dict.fromkeys(held)),
    }
    where: dict[Page, str] = {}
    for place, pages in places.items():
        for page in pages:
            if page in where:
                wrong.append(f"{page} is in {place}, and in {where[page]}")
            where[page] = place
    if pool.frag_page is not None and where.setdefault(pool.frag_page, "fragments") in ("cache", "ring", "posted"):
        wrong.append(f"{pool.frag_page} is cut into fragments, and in {where[pool.frag_page]}")
    wrong += _counts(pool, where)
    wrong += _limits(pool)
    for page, place in where.items():
        if page.pp is not pool:
            wrong.append(f"{page} in {place} is of {page.pp!r}, not of {pool!r}")
        if place in ("cache", "ring") and (page.refcount != 1 or page.pp_ref_count != 1):
            wrong.append(f"{page} in {place} is in use: pp_ref_count {page.pp_ref_count}")
    return wrong


def _counts(pool: PagePool, where: dict[Page, str]) -> list[str]:
    inflight = page_pool_inflight(pool)
    wrong = []
    if inflight != len(where):
        wrong.append(f"{inflight} pages in flight, but {len(where)} found")
    if pool.released != (pool.destroyed and not inflight):
        wrong.append(f"released is {pool.released} with {inflight} pages in flight")
    checker = pool.checker
    if checker is not None:
        for page, taking in checker.members.items():
            if page not in where:
                wrong.append(f"{page} at {page.address:#x} is nowhere, {taking or 'never taken'}")
    if pool.dma_map and pool.provider is None and not pool.destroyed:
        for page in where.keys() ^ pool.mapped.keys():
            state = "mapped" if page in pool.mapped else "not mapped"
            wrong.append(f"{page} is {state}, and in {where.get(page, 'no place')}")
    return wrong


def _limits(pool: PagePool) -> list[str]:
    wrong = []
    if len(pool.alloc_cache) > PP_ALLOC_CACHE_SIZE:
        wrong.append(f"{len(pool.alloc_cache)} pages in the cache, {PP_ALLOC_CACHE_SIZE} allowed")
    if len(pool.ring) > pool.ring_size:
        wrong.append(f"{len(pool.ring)} pages in the ring, {pool.ring_size} allowed")
    limit = pool.p.inflight_limit
    if limit and page_pool_inflight(pool) > limit:
        wrong.append(f"{page_pool_inflight(pool)} pages in flight, {limit} allowed")
    return wrong
