# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that recycle in the NIC: pages with other users, and pages of others."""

from typing import Any

import pytest

from driver_model.drivers.offload import TxRequest
from driver_model.drivers.pool_growth import GROWTH_RETRY_PS
from driver_model.drivers.strategies.hw_recycle import PoolBuffer
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.memory.page_pool.pool import page_pool_alloc_pages
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import frames
from tests.driver_model.recycle_kit import SIZE, Kit


@pytest.mark.parametrize("reserve", [False, True])
@pytest.mark.parametrize("send", [False, True])
def test_a_page_with_another_user_or_of_the_reserve_does_not_recycle(reserve: bool, send: bool) -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(3)
        buffer, queue, pages = kit.kept[0], kit.driver.queues[0], kit.host.pages[0]
        buffer.page.pfmemalloc = reserve
        if not reserve:
            pages.get_page(buffer.page)
        if send:
            assert queue.xmit([(kit.kept.pop(0), 60)], TxRequest())
            queue.tx.flush()
            kit.wait(lambda: kit.strategy.given_up, "its page to leave")
        kit.release()
        pool = kit.strategy.pool
        assert pool is not None
        pool.flush()
        kit.wait(lambda: len(kit.pool.free) == SIZE, "another page to join")
        kit.receive(SIZE)
        assert buffer not in kit.kept, "the device must not have it again"
        assert {other.id for other in kit.kept} == set(range(SIZE))
        if not reserve:
            assert buffer.page not in {other.page for other in kit.kept}
        kit.release()
        assert kit.driver.ethtool_statistics()["rx_pp_recycle_released_ref"] == 1
        if not reserve:
            pages.put_page(buffer.page)
        kit.finish()

    kit.run(run)
    statistics = kit.driver.ethtool_statistics()
    assert (statistics["hwp_given_up"], statistics["hwp_kept"], statistics["hwp_refused"]) == (1, 0, 0)
    assert kit.strategy.warnings == []


def test_pages_that_always_have_another_user_are_replaced_for_as_long_as_it_takes() -> None:
    """Each frame's bytes go on to somebody else: the device never runs out of buffers for long."""
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        pages = kit.host.pages[0]
        for number in range(6):
            kit.receive(SIZE // 2, number)
            held = [buffer.page for buffer in kit.kept]
            for page in held:
                pages.get_page(page)
            kit.release()
            kit.wait(lambda: len(kit.pool.free) == SIZE, "all buffers")
            for page in held:
                pages.put_page(page)
        kit.finish()

    kit.run(run)
    assert kit.driver.ethtool_statistics()["hwp_given_up"] == 6 * SIZE // 2
    assert kit.strategy.warnings == []


def test_pages_that_left_are_replaced_when_there_is_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit("pass")
    module = "driver_model.drivers.strategies.hw_recycle.page_pool_alloc_pages"

    def run() -> None:
        kit.start()
        kit.receive(4)
        pages = kit.host.pages[0]
        held = [buffer.page for buffer in kit.kept]
        for page in held:
            pages.get_page(page)
        with monkeypatch.context() as patch:
            patch.setattr(module, lambda pool: None)
            kit.release()
            kit.core.sleep_until(kit.core.time + 3 * GROWTH_RETRY_PS)
            assert len(kit.pool.table) == SIZE - 4
        kit.wait(lambda: len(kit.pool.free) == SIZE, "all buffers")
        for page in held:
            pages.put_page(page)
        kit.receive(SIZE)
        kit.release()
        kit.finish()

    kit.run(run)
    assert kit.strategy.warnings == []


def test_the_last_of_several_users_gives_a_buffer_back() -> None:
    """As a clone of a packet does: it shares the page by ``pp_ref_count``."""
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(1)
        buffer, queue = kit.kept[0], kit.driver.queues[0]
        buffer.page.pp_ref_count += 1
        atomics = kit.core.op("atomic").count
        queue.release(buffer)
        assert kit.core.op("atomic").count - atomics == 1
        kit.core.sleep_until(kit.core.time + 10**9)
        assert list(kit.pool.out) == [buffer.id]
        kit.release()
        kit.conserved()
        kit.finish()

    kit.run(run)


def test_a_buffer_with_several_users_is_sent_but_not_recycled_by_the_device() -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(1)
        buffer, queue = kit.kept.pop(), kit.driver.queues[0]
        buffer.page.pp_ref_count += 1
        assert queue.xmit([(buffer, 60)], TxRequest())
        queue.tx.flush()
        kit.wait(lambda: buffer.page.pp_ref_count == 1, "it to be sent")
        assert list(kit.pool.out) == [buffer.id]
        queue.release(buffer)
        kit.conserved()
        kit.finish()

    kit.run(run)
    assert kit.driver.ethtool_statistics()["hwp_recycled"] == 0


def test_a_buffer_of_another_queue_is_reported_where_it_is_given_back() -> None:
    kept: dict[int, list[PoolBuffer]] = {0: [], 1: []}

    def keep(queue: Any, fragments: Any, metadata: Any) -> None:
        kept[queue.index] += [buffer for buffer, _, _ in fragments]

    kit = Kit("pass", queues=2, consumer=keep)

    def run() -> None:
        kit.start()
        kit.nic.receive(0, frames(1, 0))
        kit.wait(lambda: kept[0], "the frame")
        with pytest.raises(OwnershipError, match="wrong pool"):
            kit.driver.queues[1].release(kept[0][0])

    kit.run(run)


def test_only_of_what_others_have_had_the_page_is_looked_at() -> None:
    """Forwarded by XDP, or sent by a consumer."""
    for verdict, looks in (("tx", 0), ("pass", 20)):

        def answer(queue: Any, fragments: Any, metadata: Any) -> None:
            assert queue.xmit([(buffer, length) for buffer, _, length in fragments], TxRequest())

        kit = Kit(verdict, consumer=answer)

        def run(kit: Kit = kit) -> None:
            kit.start()
            kit.receive(20)
            kit.wait(lambda: kit.pool.free and not kit.pool.sending, "every frame to be sent")
            kit.finish()

        kit.run(run)
        assert kit.driver.ethtool_statistics()["hwp_recycled"] == 20
        assert kit.system.operations().get("recycle.batch", (0, 0))[0] == looks


def test_a_page_of_the_reserve_does_not_join(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "driver_model.drivers.strategies.hw_recycle.page_pool_alloc_pages"

    def reserved(pool: PagePool) -> Page | None:
        page = page_pool_alloc_pages(pool)
        if page is not None:
            page.pfmemalloc = len(seen) == SIZE // 2
            seen.append(page)
        return page

    seen: list[Page] = []
    monkeypatch.setattr(module, reserved)
    kit = Kit()

    def run() -> None:
        kit.driver.probe()
        with pytest.raises(OSError, match=f"only for {SIZE // 2}"):
            kit.driver.open()
        kit.nothing_left()

    kit.run(run)
