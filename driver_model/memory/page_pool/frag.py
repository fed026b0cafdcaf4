# SPDX-License-Identifier: BSD-2-Clause
"""Fragments of a page_pool's pages (``page_pool_alloc_frag``, ``page_pool_alloc``).

A page that fragments are cut from starts with :data:`BIAS_MAX` users, so that cutting one costs no atomic; when the
page is used up, the users that it never had are taken off at once. A fragment is given back as a page is, by
``page_pool_put_page`` with ``dma_sync_size`` -1: the last one's put syncs for all. Fragments begin at a cache line.

Costs: each fragment ``page_pool.frag_alloc``.
"""

from driver_model.memory.page_pool.pool import page_pool_alloc_pages
from driver_model.memory.page_pool.slow import page_pool_dma_sync_for_device, page_pool_return_page
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.page_pool.users import page_pool_fragment_page, page_pool_unref_page
from driver_model.memory.pages.page import Page

BIAS_MAX = ((1 << 63) - 1) >> 1
FRAGMENT_ALIGN = 64  #: ``dma_get_cache_alignment()``, a cache line on every machine here


def page_pool_alloc_frag(pool: PagePool, size: int) -> tuple[Page, int] | None:
    """``size`` bytes of a page, and where in it they begin; None as for a page. Only the consumer may call.

    The caller says what such a fragment really takes (truesize): where its size does not divide the page's, the rest of
    the page is nobody's. :func:`page_pool_alloc` accounts for it.
    """
    fragment = _alloc_frag(pool, size)
    if fragment is not None and pool.checker is not None:
        pool.checker.fragment(fragment[0], fragment[1], _align(size))
    return fragment


page_pool_dev_alloc_frag = page_pool_alloc_frag


def page_pool_alloc(pool: PagePool, size: int) -> tuple[Page, int, int] | None:
    """``size`` bytes of a page, where in it they begin, and how many bytes it really takes; None as for a page.

    More than half a page is a whole one. A fragment gets the rest of the page as well if another like it would not fit.
    """
    largest = pool.page_size
    if size * 2 > largest:
        page = page_pool_alloc_pages(pool)
        return None if page is None else (page, 0, largest)
    fragment = _alloc_frag(pool, size)
    if fragment is None:
        return None
    page, offset = fragment
    truesize = pool.frag_offset - offset
    if pool.frag_offset + truesize > largest:
        truesize = largest - offset
        pool.frag_offset = largest
    if pool.checker is not None:
        pool.checker.fragment(page, offset, truesize)
    return page, offset, truesize


page_pool_dev_alloc = page_pool_alloc


def page_pool_free_frag(pool: PagePool) -> None:
    """Give up the page that fragments are cut from; it leaves the pool, with its last user if it has any."""
    page = pool.frag_page
    pool.frag_page = None
    if page is not None and not page_pool_unref_page(page, BIAS_MAX - pool.frag_users):
        page_pool_return_page(pool, page)


def _alloc_frag(pool: PagePool, size: int) -> tuple[Page, int] | None:
    if size <= 0:
        raise ValueError(f"A fragment must be 1..{pool.page_size} bytes, not {size!r}")
    if size > pool.page_size:
        pool.warnings.append(f"a fragment of {size} bytes does not fit into a page of {pool.page_size}")
        return None
    pool.spend(pool.op_frag_alloc)
    size = _align(size)
    page, offset = pool.frag_page, pool.frag_offset
    if page is not None and offset + size <= pool.page_size:
        pool.frag_users += 1
        pool.frag_offset = offset + size
        return page, offset
    if page is not None:
        page = _drain_frag(pool, page)
    if page is not None:
        pool.recycle_stats.cached += 1
        pool.alloc_stats.fast += 1
    else:
        page = page_pool_alloc_pages(pool)
        pool.frag_page = page
        if page is None:
            return None
    pool.frag_users = 1
    pool.frag_offset = size
    page_pool_fragment_page(page, BIAS_MAX)
    return page, 0


def _drain_frag(pool: PagePool, page: Page) -> Page | None:
    """The page is used up: back to one user if all its fragments have come back, and then it may be cut anew."""
    if pool.checker is not None:
        pool.checker.drained(page)
    if page_pool_unref_page(page, BIAS_MAX - pool.frag_users):
        return None
    if page.refcount == 1 and not page.pfmemalloc:
        if pool.dma_sync:
            page_pool_dma_sync_for_device(pool, page, -1)
        return page
    page_pool_return_page(pool, page)
    return None


def _align(size: int) -> int:
    return size + FRAGMENT_ALIGN - 1 & -FRAGMENT_ALIGN
