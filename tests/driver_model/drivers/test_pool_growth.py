# SPDX-License-Identifier: BSD-2-Clause
"""A pool that grows when it runs low: by how much, up to where, without memory, and while its queue stops."""

import pytest

from driver_model.drivers.device import DeviceError
from tests.driver_model.bench import frames
from tests.driver_model.recycle_kit import SIZE, Kit

STEP = SIZE // 4
MOST = SIZE + 2 * STEP + 3


def joined(kit: Kit) -> int:
    """Buffers of the pool, as the device has them."""
    return len(kit.pool.table)


def test_a_pool_grows_as_it_runs_low_up_to_its_bound() -> None:
    kit = Kit("pass", pool_max=MOST)

    def run() -> None:
        kit.start()
        kit.receive(SIZE - STEP)
        kit.core.sleep_until(kit.core.time + 10**8)
        assert joined(kit) == SIZE, "as many as the threshold are free"
        kit.receive(1)
        kit.wait(lambda: joined(kit) == SIZE + STEP, "one step of growth")
        kit.nic.receive(0, frames(2 * MOST, 1))
        kit.wait(lambda: kit.total("rx_packets") == MOST, "as many frames as there may be buffers")
        kit.core.sleep_until(kit.core.time + 10**9)
        assert kit.total("rx_packets") == joined(kit) == MOST
        kit.release()
        kit.wait(lambda: kit.total("rx_packets") == 2 * MOST, "as many once more")
        kit.release()
        kit.wait(lambda: kit.total("rx_packets") == 2 * MOST + SIZE - STEP + 1, "the rest")
        kit.release()
        kit.finish()

    kit.run(run)
    assert kit.driver.ethtool_statistics()["hwp_joined"] == MOST


@pytest.mark.parametrize("most", [0, SIZE - 1, SIZE])
def test_a_pool_without_room_to_grow_asks_for_no_interrupt(most: int) -> None:
    kit = Kit("pass", pool_max=most)

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        assert "low_water" not in kit.pool.values
        assert joined(kit) == SIZE
        kit.release()
        kit.finish()

    kit.run(run)


def test_without_memory_it_tries_again_and_interrupts_do_not_storm(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit("pass", pool_max=MOST)

    def run() -> None:
        kit.start()
        with monkeypatch.context() as patch:
            patch.setattr("driver_model.drivers.strategies.hw_recycle.page_pool_alloc_pages", lambda pool: None)
            heard: list[int] = []
            deliver = kit.pool.interrupt
            patch.setattr(kit.pool, "interrupt", lambda vector: (heard.append(vector), deliver(vector)))
            kit.receive(SIZE)
            kit.core.sleep_until(kit.core.time + 5 * 10**9)
            assert joined(kit) == SIZE
            assert 3 <= len(heard) <= 6, "one each millisecond"
        kit.wait(lambda: joined(kit) == SIZE + STEP, "growth")
        kit.release()
        kit.finish()

    kit.run(run)


@pytest.mark.parametrize("reset", [False, True])
def test_a_queue_that_stops_waits_for_a_step_of_growth(reset: bool) -> None:
    kit = Kit("drop", pool_max=MOST)

    def run() -> None:
        kit.start()
        for _ in range(3):
            kit.strategy.low_water()
            if reset:
                kit.driver.reset()
            else:
                kit.driver.stop()
            kit.strategy.low_water()
            kit.core.sleep_until(kit.core.time + 10**8)
            kit.nothing_left()
            assert kit.pool.refused == 0
            kit.driver.open()
        kit.finish()

    kit.run(run)


def test_a_device_that_refuses_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit("pass", pool_max=MOST)

    def refuse(*arguments: int) -> None:
        raise DeviceError("it does not answer")

    def run() -> None:
        kit.start()
        pool = kit.strategy.pool
        assert pool is not None
        monkeypatch.setattr(pool, "join", refuse)
        kit.receive(SIZE)
        kit.wait(lambda: kit.strategy.warnings, "the warning")
        kit.core.sleep_until(kit.core.time + 10**9)
        assert kit.strategy.warnings == ["Pool 0 grows no more: it does not answer"]
        kit.release()
        kit.finish()

    kit.run(run)
