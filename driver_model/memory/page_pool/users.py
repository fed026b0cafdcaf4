# SPDX-License-Identifier: BSD-2-Clause
"""The users of a page_pool's page: ``pp_ref_count`` (``include/net/page_pool/helpers.h``).

Costs: one user more an ``atomic``; users less, but for the last ones, ``page_pool.frag_put`` and an ``atomic``.
"""

from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.pages.page import Page


def page_pool_fragment_page(page: Page, users: int) -> None:
    """A page that was just allocated has so many users."""
    if users < 1:
        raise ValueError(f"A page must have 1 user or more, not {users!r}")
    if page.pp_ref_count != 1:
        raise ValueError(f"{page} must have pp_ref_count 1 to be split, not {page.pp_ref_count!r}")
    page.pp_ref_count = users


def page_pool_ref_page(page: Page) -> None:
    """A page of a pool has one more user."""
    page.pp.spend(page.pp.op_atomic)
    page.pp_ref_count += 1


def page_pool_unref_page(page: Page, users: int) -> int:
    """Take so many users off a page of a pool; how many are left. After the last it counts 1, as a page not split."""
    left = page.pp_ref_count - users
    if not left:
        page.pp_ref_count = 1
        return 0
    pool: PagePool | None = page.pp
    if pool is None:
        raise ValueError(f"{page} must be a page_pool's, not None's")
    pool.spend(pool.op_frag_put)
    pool.spend(pool.op_atomic)
    page.pp_ref_count = left
    if left < 0:
        pool.warnings.append(f"pp_ref_count of {page} fell to {left}")
        if pool.checker is not None:
            pool.checker.overdrawn(page)
    return left
