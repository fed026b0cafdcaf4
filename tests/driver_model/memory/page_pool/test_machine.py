# SPDX-License-Identifier: BSD-2-Clause
"""Any sequence of calls leaves page_pool where a model made of lists is: pages, order and counters."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from driver_model.memory.page_pool.audit import page_pool_audit
from driver_model.memory.page_pool.frag import page_pool_alloc_frag
from driver_model.memory.page_pool.pool import (
    page_pool_alloc_pages,
    page_pool_put_full_page,
    page_pool_put_page_bulk,
    page_pool_update_nid,
)
from driver_model.memory.page_pool.release import page_pool_destroy
from driver_model.memory.page_pool.shrinker import PagePoolShrinker
from driver_model.memory.page_pool.state import PagePool, page_pool_inflight
from driver_model.memory.page_pool.users import page_pool_ref_page
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench
from tests.driver_model.memory.page_pool.page_pool_model import Model
from tests.driver_model.memory.page_pool.pool_kit import make

STEPS = 10_000
MEMORY = 400  #: pages, so that it is met
indices = st.integers(0, 1 << 16)


class PagePoolMachine(RuleBasedStateMachine):
    """One pool at a time, and what is left of those before it."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(memory=MEMORY * 4096)
        self.pages = self.bench.host.pages[0]
        self.pool: PagePool
        self.model: Model
        self.old: list[tuple[PagePool, Model]] = []
        self.referenced: list[Page] = []

    @initialize(ring=st.integers(1, 80), limit=st.sampled_from([0, 0, 30, 150]))
    def create(self, ring: int, limit: int) -> None:
        resume = max(0, limit - 1 if ring % 2 else limit // 2)
        self.pool = make(self.bench, pool_size=ring, inflight_limit=limit, inflight_resume=resume if limit else None)
        self.model = Model(ring, limit, resume)

    @property
    def free(self) -> int:
        return MEMORY - 1 - self.pages.in_use

    def came(self, expected: Page | int | None, page: Page | None) -> None:
        """A page is in use from now on; of fresh ones the others are in the cache."""
        if isinstance(expected, int):
            fresh = [*self.pool.alloc_cache, page]
            assert len(fresh) == expected
            assert not set(fresh) & {*self.model.users, *self.model.ring}
            self.model.cache = list(self.pool.alloc_cache)
        else:
            assert page is expected
        if page is not None:
            self.model.users[page] = 0

    @rule(count=st.integers(1, 70))
    def alloc(self, count: int) -> None:
        for _ in range(count):
            expected = self.model.alloc(self.free)
            page = page_pool_alloc_pages(self.pool)
            self.came(expected, page)
            if page is not None:
                self.model.users[page] = 1

    def pick(self, index: int) -> Page | None:
        used = [page for page, users in self.model.users.items() if users]
        return used[index % len(used)] if used else None

    @rule(index=indices, count=st.integers(1, 70), direct=st.booleans())
    def put(self, index: int, count: int, direct: bool) -> None:
        for _ in range(count):
            page = self.pick(index)
            if page is not None:
                self.model.put(page, direct)
                page_pool_put_full_page(self.pool, page, direct)

    @precondition(lambda self: self.model.tripped)
    @rule(more=st.integers(-1, 1))
    def come_back(self, more: int) -> None:
        """So many pages that the circuit breaker just lets others go out, or just does not."""
        while len(self.model.users) > self.model.resume + more and (page := self.pick(0)) is not None:
            self.model.put(page, True)
            page_pool_put_full_page(self.pool, page, True)
        self.alloc(1)

    @rule(index=indices, count=st.integers(1, 16))
    def put_bulk(self, index: int, count: int) -> None:
        pages = [page for page, users in self.model.users.items() if users][index % 7 :][:count]
        self.model.put_bulk(pages)
        page_pool_put_page_bulk(pages)

    @rule(index=indices)
    def share(self, index: int) -> None:
        page = self.pick(index)
        if page is not None:
            page_pool_ref_page(page)
            self.model.users[page] += 1

    @rule(index=indices)
    def get_page(self, index: int) -> None:
        page = self.pick(index)
        if page is not None and page not in self.model.referenced:
            self.pages.get_page(page)
            self.model.referenced.add(page)
            self.referenced.append(page)

    @precondition(lambda self: self.referenced)
    @rule(index=indices)
    def put_page(self, index: int) -> None:
        page = self.referenced.pop(index % len(self.referenced))
        self.pages.put_page(page)
        for model in (self.model, *(model for _, model in self.old)):
            model.referenced.discard(page)

    @rule(index=indices)
    def move(self, index: int) -> None:
        """A page turns out to be of the other node, or not."""
        page = self.pick(index)
        if page is not None:
            page.nid ^= 1

    @rule(index=indices)
    def emergency(self, index: int) -> None:
        """A page turns out to be of the emergency reserve."""
        page = self.pick(index)
        if page is not None:
            page.pfmemalloc = True

    @rule()
    def update_nid(self) -> None:
        page_pool_update_nid(self.pool, 0)
        self.model.cache.clear()

    @rule(size=st.sampled_from([512, 1024, 2048, 4096]))
    def fragment(self, size: int) -> None:
        model = self.model
        if model.cut is not None and 4096 - model.cut_to < size and model.cut_to < 4096:
            size = 4096 - model.cut_to  # so that nothing is wasted, which the checker would report
        if model.cut_fits(size):
            offset, model.cut_to = model.cut_to, model.cut_to + size
            assert page_pool_alloc_frag(self.pool, size) == (model.cut, offset)
        else:
            page = model.drain()
            if page is None:
                expected = model.alloc(self.free)
                fragment = page_pool_alloc_frag(self.pool, size)
                self.came(expected, fragment[0] if fragment is not None else None)
            else:
                fragment = page_pool_alloc_frag(self.pool, size)
                assert fragment == (page, 0)
            model.cut, model.cut_to = (fragment[0] if fragment is not None else None), size
        if model.cut is not None:
            model.users[model.cut] += 1

    @rule(count=st.integers(0, 40))
    def shrink(self, count: int) -> None:
        given = self.model.shrink(count)
        assert PagePoolShrinker(self.pool).scan_objects(self.bench.core, count) == given

    @rule(ring=st.integers(1, 80), limit=st.sampled_from([0, 0, 30, 150]), chance=st.integers(0, 9))
    def destroy(self, ring: int, limit: int, chance: int) -> None:
        if chance:
            return
        self.model.destroy()
        page_pool_destroy(self.pool)
        self.old.append((self.pool, self.model))
        self.create(ring, limit)

    @precondition(lambda self: self.old)
    @rule(count=st.integers(1, 50))
    def put_late(self, count: int) -> None:
        pool, model = self.old[0]
        for page in [page for page, users in model.users.items() for _ in range(users)][:count]:
            model.put(page, False)
            page_pool_put_full_page(pool, page, False)
        assert pool.released == (not model.users)
        if pool.released:
            self.old.pop(0)

    @invariant()
    def they_agree(self) -> None:
        type(self).steps += 1
        if not hasattr(self, "pool"):
            return
        for pool, model in ((self.pool, self.model), *self.old):
            assert page_pool_inflight(pool) == model.inflight
            counts = {name: getattr(pool.statistics, name) for name in pool.statistics.__slots__}
            assert {name: value for name, value in counts.items() if value} == +model.counts
            assert page_pool_audit(pool, held=model.users) == []
        assert self.pool.alloc_cache == self.model.cache
        assert list(self.pool.ring) == self.model.ring
        assert self.pool.tripped == self.model.tripped
        assert {page: page.pp_ref_count for page in self.model.users if page is not self.model.cut} == {
            page: users for page, users in self.model.users.items() if page is not self.model.cut
        }

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.model.destroy()
        page_pool_destroy(self.pool)
        self.old.append((self.pool, self.model))
        while self.old:
            self.put_late_all()
        for page in self.referenced:
            self.pages.put_page(page)
        assert self.bench.host.pages_in_use == 0
        assert self.bench.checker is not None
        self.bench.checker.finish()

    def put_late_all(self) -> None:
        pool, model = self.old.pop(0)
        for page, users in list(model.users.items()):
            for _ in range(users):
                page_pool_put_full_page(pool, page, False)
        assert pool.released


def test_any_sequence_of_calls() -> None:
    """Hypothesis prints the sequence that fails; the same ones are tried each time."""
    PagePoolMachine.steps = 0
    checks: Any = list(HealthCheck)
    run_state_machine_as_test(
        PagePoolMachine,
        settings=settings(
            max_examples=130,
            stateful_step_count=100,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=checks,
        ),
    )
    assert PagePoolMachine.steps >= STEPS
