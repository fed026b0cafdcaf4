# SPDX-License-Identifier: BSD-2-Clause
"""Pools that are opened and closed: nothing of before bounds them, nothing is given up that the device has, and what
was released is neither missed nor called overdue."""

from unittest import mock

import pytest

from driver_model.drivers.device import DeviceError
from driver_model.drivers.hardware_pool import HardwarePool
from hw.abi.pools import PoolState
from tests.driver_model.bench import frames
from tests.driver_model.recycle_kit import SIZE, Kit


def test_a_pool_that_did_not_drain_is_not_given_up_by_a_second_stop() -> None:
    kit = Kit("drop")

    def run() -> None:
        kit.start()
        kit.receive(5)
        kit.pool.stays = True
        for _ in range(2):
            with pytest.raises(DeviceError, match="DRAINING"):
                kit.driver.stop()
            assert kit.driver.in_flight == SIZE, "the device may still write to its pages"
        kit.pool.stays = False
        kit.driver.stop()
        assert kit.pool.state is PoolState.DISABLED
        kit.driver.open()
        kit.receive(5)
        kit.finish()

    kit.run(run)
    assert kit.strategy.warnings == []


@pytest.mark.parametrize("how", ["limit", "close", "track", "bound"])
def test_a_pool_is_opened_without_what_it_was_bounded_by_before(how: str) -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        pool = kit.strategy.pool
        assert pool is not None
        if how == "limit":
            pool.set_limit(2)
        elif how == "close":
            pool.close_loop()
        elif how == "track":
            pool.track(window=8, slack=0)
        else:
            pool.set_overdue_bound(1)
        kit.core.sync()
        kit.driver.stop()
        kit.driver.open()
        kit.receive(20)
        kit.core.sleep_until(kit.core.time + 10**10)
        pool = kit.strategy.pool
        assert pool is not None
        assert not pool.overdue()
        assert (pool.counts().limit, pool.resume) == (0, None)
        kit.release()
        kit.finish()

    kit.run(run)


@pytest.mark.parametrize(("limit", "resume"), [(10, 0), (10, 2), (2, None), (3, None)])
def test_a_loop_that_closed_opens_when_all_was_released(limit: int, resume: int | None) -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        pool = kit.strategy.pool
        assert pool is not None
        pool.set_limit(limit, resume)
        kit.core.sync()
        kit.nic.receive(0, frames(30, 0))
        kit.core.sleep_until(kit.core.time + 10**9)
        assert len(kit.kept) == limit
        kit.release()
        kit.core.sleep_until(kit.core.time + 10**9)
        kit.receive(1, 1)
        kit.release()
        kit.finish()

    kit.run(run)


def test_what_was_released_is_not_overdue() -> None:
    kit = Kit("drop")

    def run() -> None:
        kit.start()
        pool = kit.strategy.pool
        assert pool is not None
        pool.set_overdue_bound(10)
        kit.receive(3)
        kit.core.sleep_until(kit.core.time + 10**9)
        assert pool.overdue() == []
        kit.finish()

    kit.run(run)


def test_what_a_consumer_releases_while_the_pool_is_closed_it_has_not_kept() -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(3)
        core, settle = kit.core, HardwarePool.settle

        def release_meanwhile(pool: HardwarePool) -> None:
            settle(pool)
            kit.release()

        with mock.patch.object(HardwarePool, "settle", release_meanwhile):
            kit.driver.stop()
        core.sync()

    kit.run(run)
    assert (kit.strategy.kept, kit.strategy.warnings) == (0, [])
    assert kit.driver.in_flight == 0


def test_what_was_refused_is_known_after_a_reset() -> None:
    kit = Kit("drop")

    def run() -> None:
        kit.start()
        pool = kit.strategy.pool
        assert pool is not None
        pool.give_back(3)
        pool.flush()
        kit.driver.reset()

    kit.run(run)
    assert kit.strategy.refused == 1
    assert "Pool 0 refused buffer 3 from a return register" in kit.strategy.warnings[0]
