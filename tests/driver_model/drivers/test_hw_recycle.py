# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that recycle in the NIC: what forwarding costs, how buffers go back, and who is told of what went wrong."""

import pytest

from driver_model.drivers.strategies.base import PoolOptions
from driver_model.memory.dma.ownership import OwnershipError
from hw.abi.pools import PoolState
from hw.abi.rings import QueueError
from tests.driver_model.bench import Bench, frames
from tests.driver_model.fake_nic import FakeNic
from tests.driver_model.recycle_kit import SIZE, Kit

MANAGEMENT = ("page.", "page_pool.", "dma.", "iova.", "iommu.", "rx.refill", "recycle.", "spin.")


def charged(bench: Bench) -> dict[str, int]:
    """How often each operation was charged."""
    return {name: count for name, (count, _) in bench.system.operations().items() if count}


def test_forwarding_costs_nothing_for_buffers_but_the_syncs_of_the_frame() -> None:
    kit = Kit("tx")

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        before, writes = charged(kit), kit.driver.queues[0].napi.polls
        for seed in range(10):
            kit.receive(100, seed)
        kit.wait(lambda: kit.total("tx_packets") == 1000 + SIZE, "every frame to be sent")
        spent = {name: count - before.get(name, 0) for name, count in charged(kit).items()}
        found = {name: count for name, count in spent.items() if count and name.startswith(MANAGEMENT)}
        assert found == {"dma.sync_for_cpu": 1000, "dma.sync_for_device": 1000}
        polls = kit.driver.queues[0].napi.polls - writes
        assert (spent["rx.descriptor"], spent["tx.descriptor"]) == (1000, 1000)
        assert spent["tx.clean"] <= 2 * polls < 200, "one for each completion"
        assert spent["mmio.write"] <= 3 * polls, "two doorbells and the arming"
        assert kit.pool.return_writes == []
        kit.conserved()
        kit.finish()

    kit.run(run)
    assert kit.driver.queues[0].rx.supply.ring.producer == 0, "no descriptor was posted"
    assert kit.driver.ethtool_statistics()["hwp_recycled"] == 1000 + SIZE


def test_what_is_dropped_goes_back_four_at_a_time() -> None:
    kit = Kit("drop")

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        kit.pool.return_writes.clear()
        before = charged(kit)
        kit.receive(SIZE - 2)
        assert [len(ids) for ids in kit.pool.return_writes] == [4] * (SIZE // 4 - 1)
        spent = {name: count - before.get(name, 0) for name, count in charged(kit).items()}
        found = {name: count for name, count in spent.items() if count and name.startswith(MANAGEMENT)}
        assert found == {
            "dma.sync_for_cpu": SIZE - 2,
            "dma.sync_for_device": SIZE - 2,
            "recycle.batch": SIZE - 2,
            "recycle.return": SIZE // 4 - 1,
        }
        kit.conserved()
        kit.finish()

    kit.run(run)
    statistics = kit.driver.ethtool_statistics()
    assert (statistics["hwp_joined"], statistics["hwp_returned"]) == (SIZE, 2 * SIZE - 2)


def test_a_consumer_gives_back_outside_the_poll_and_reception_goes_on() -> None:
    """All buffers are kept: no frame comes, and no poll, until one is given back."""
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        assert len(kit.kept) == SIZE
        kit.nic.receive(0, frames(3, 1))
        kit.core.sleep_until(kit.core.time + 10**9)
        assert kit.total("rx_packets") == SIZE
        kit.release(1)
        kit.wait(lambda: kit.total("rx_packets") == SIZE + 1, "a frame for the buffer that came back")
        kit.release()
        kit.wait(lambda: kit.total("rx_packets") == SIZE + 3, "the rest")
        kit.release()
        kit.conserved()
        kit.finish()

    kit.run(run)


def test_each_queue_has_a_pool_of_its_own() -> None:
    kit = Kit("tx", queues=2, cores=2, pools=3)
    sent = [frames(200, 1), frames(200, 2)]

    def run() -> None:
        kit.start()
        for queue in range(2):
            assert kit.nic.queues[queue].registers["rx_pool"] == 1 | queue << 8
            assert kit.nic.queues[queue].registers["tx_pools"] == 1 << queue
            kit.nic.receive(queue, sent[queue])
        kit.wait(lambda: kit.total("tx_packets") == 400, "every frame to be sent")
        assert [pool.state for pool in kit.nic.pools] == [PoolState.ENABLED, PoolState.ENABLED, PoolState.DISABLED]
        kit.finish()

    kit.run(run)
    assert [queue.sent for queue in kit.nic.queues[:2]] == sent


def test_a_buffer_that_is_given_back_twice_is_refused_and_reported() -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(1)
        buffer = kit.kept[0]
        kit.release()
        with pytest.raises(OwnershipError, match="double put"):
            kit.driver.queues[0].release(buffer)
        pool = kit.strategy.pool
        assert pool is not None
        pool.give_back(buffer.id)
        pool.flush()
        report = pool.misuse()
        assert str(report).startswith(f"Pool 0 refused buffer {SIZE - 1} from a return register: the NIC has it")
        assert len(kit.pool.free) == SIZE
        kit.finish()

    kit.run(run)
    assert kit.driver.ethtool_statistics()["hwp_refused"] == 1
    assert [text[-36:] for text in kit.strategy.warnings] == ["or never handed out (1 refused in all)"[-36:]]


@pytest.mark.parametrize("buffer_id", [SIZE, 65535, SIZE - 1])
def test_a_completion_of_a_buffer_that_the_device_does_not_have_is_counted_and_ignored(buffer_id: int) -> None:
    """Beyond the pool, or one that software holds."""
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(1)
        assert kit.kept[0].id == SIZE - 1
        kit.nic.complete(kit.nic.queues[0], buffer_id, 60)
        kit.nic.receive(0, [])
        kit.wait(lambda: kit.total("rx_errors") == 1, "the completion")
        kit.receive(1)
        kit.release()
        kit.conserved()
        kit.finish()

    kit.run(run)
    assert kit.total("rx_bad_buffer") == 1


def test_closing_names_what_a_consumer_keeps_and_its_pages_come_back_later() -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(3)
        names = [buffer.id for buffer in kit.kept]
        kit.driver.stop()
        assert kit.pool.state is PoolState.DISABLED
        assert kit.driver.in_flight == 3
        assert kit.strategy.kept == 3
        for name, text in zip(sorted(names), kit.strategy.warnings, strict=True):
            assert text.startswith(f"Pool 0 closed without buffer {name}: out by queue 0 for ")
        kit.release()
        kit.nothing_left()

    kit.run(run)


@pytest.mark.parametrize("held", [0, 5])
def test_buffers_whose_completion_was_lost_are_found(held: int) -> None:
    """The queue stops by an error when the device has written completions that never arrive."""
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        kit.receive(held + 1)
        kit.release(1)
        for _ in range(7):
            kit.pool.deliver(kit.pool.pop(), 0)
        kit.nic.fail(0, "rx", QueueError.RING_WRITE)
        kit.wait(lambda: kit.driver.faults, "the driver to notice")
        kit.driver.stop()
        assert (kit.strategy.lost, kit.strategy.kept) == (7, held)
        kit.release()
        kit.nothing_left()
        kit.driver.open()
        kit.receive(20)
        kit.release()
        kit.conserved()
        kit.finish()

    kit.run(run)


def test_frames_that_were_never_sent_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit("tx")
    monkeypatch.setattr(FakeNic, "_send", lambda self, queue: None)

    def run() -> None:
        kit.start()
        kit.receive(10)
        kit.nic.fail(0, "tx", QueueError.RING_READ)
        kit.wait(lambda: kit.driver.faults, "the driver to notice")
        kit.finish()

    kit.run(run)
    assert kit.total("tx_aborted") == 10
    assert kit.strategy.lost == 10


@pytest.mark.parametrize("verdict", ["tx", "pass"])
def test_it_opens_closes_and_is_reset_again_and_again(verdict: str) -> None:
    kit = Kit(verdict)

    def run() -> None:
        kit.driver.probe()
        for number in range(6):
            kit.driver.open()
            kit.receive(SIZE - 4, number)
            if number % 2:
                kit.driver.reset()
                kit.release()
                kit.nothing_left()
            else:
                kit.release()
                kit.finish()

    kit.run(run)


def test_a_pool_that_does_not_drain_keeps_the_device_open_until_its_reset() -> None:
    kit = Kit("drop")

    def run() -> None:
        kit.start()
        kit.receive(5)
        kit.pool.stays = True
        with pytest.raises(RuntimeError, match="Waited 10 ms for state DISABLED of pool 0: it is DRAINING"):
            kit.driver.stop()
        with pytest.raises(RuntimeError, match="is open already"):
            kit.driver.open()
        kit.driver.reset()
        kit.nothing_left()
        kit.driver.open()
        kit.receive(5)
        kit.finish()

    kit.run(run)


def test_the_loop_refuses_frames_and_memory_stays_bounded() -> None:
    kit = Kit("pass")

    def run() -> None:
        kit.start()
        pool = kit.strategy.pool
        assert pool is not None
        pool.set_limit(10)
        kit.core.sync()
        kit.nic.receive(0, frames(30, 0))
        kit.wait(lambda: kit.pool.drops == 20, "the loop to refuse")
        assert kit.total("rx_packets") == len(kit.kept) == 10
        assert pool.counts().closed
        kit.release()
        kit.receive(5)
        assert pool.counts().closings == 1
        kit.release()
        kit.finish()

    kit.run(run)


def test_a_pool_grows_while_it_runs() -> None:
    kit = Kit("pass", pool_buffers=128)

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        assert kit.strategy.grow(10) == 10
        kit.receive(10)
        assert sorted(buffer.id for buffer in kit.kept) == list(range(SIZE + 10))
        assert kit.strategy.grow(100) == 128 - SIZE - 10, "no id is left"
        kit.release()
        kit.finish()

    kit.run(run)


def test_a_limit_closes_the_devices_feedback_loop() -> None:
    """Of what a consumer keeps, no more than the limit is out; it opens again where it is told to."""
    kit = Kit("pass", pool=PoolOptions(inflight_limit=40, inflight_resume=10))

    def run() -> None:
        kit.start()
        kit.nic.receive(0, frames(SIZE, 1))
        kit.wait(lambda: kit.total("rx_completed") == 40, "as many as may be out")
        kit.core.sleep_until(kit.core.time + 10**8)
        assert (kit.total("rx_completed"), kit.pool.outstanding, kit.pool.closed) == (40, 40, True)
        kit.release(29)
        kit.core.sleep_until(kit.core.time + 10**8)
        kit.nic.receive(0, frames(1, 2))
        kit.core.sleep_until(kit.core.time + 10**8)
        assert (kit.total("rx_completed"), kit.pool.closed) == (40, True)
        kit.release(1)
        kit.core.sleep_until(kit.core.time + 10**8)
        kit.receive(10)
        assert not kit.pool.closed
        kit.release()
        kit.finish()

    kit.run(run)
