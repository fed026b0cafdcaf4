# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that recycle in the NIC: what forwarding costs, how buffers go back, and who is told of what went wrong."""

import errno
from typing import Any

import pytest

from driver_model.drivers.offload import GsoType, TxRequest
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.strategies.hw_recycle import HwRecycle, PoolBuffer
from driver_model.memory.ownership import OwnershipError
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from hw.abi.pools import PoolState
from hw.abi.rings import QueueError
from tests.driver_model.bench import Bench, frames
from tests.driver_model.fake_nic import FakeNic
from tests.driver_model.fake_pools import FakePool

SIZE = 64
MANAGEMENT = ("page.", "page_pool.", "dma.", "iova.", "iommu.", "rx.refill", "spin.")


class Kit(Bench):
    """A bench with a pool of :data:`SIZE` buffers for each queue; frames that pass are kept in ``kept``."""

    def __init__(self, verdict: str = "drop", **given: Any) -> None:
        self.kept: list[Any] = []
        defaults = {"consumer": self._keep, "pool_size": SIZE, "rx_entries": 128, "tx_entries": 128}
        super().__init__("hw_recycle", verdict, **(defaults | given))

    def _keep(self, queue: Any, fragments: Any, metadata: Any) -> None:
        self.kept += [buffer for buffer, _, _ in fragments]

    @property
    def strategy(self) -> HwRecycle:
        """The first queue's."""
        strategy = self.driver.queues[0].strategy
        assert isinstance(strategy, HwRecycle)
        return strategy

    @property
    def pool(self) -> FakePool:
        """The first, from the device's side."""
        return self.nic.pools[0]

    def receive(self, count: int, seed: int = 0, **size: int) -> list[bytes]:
        """So many frames come, and are handled."""
        before, sent = self.total("rx_completed"), frames(count, seed, **size)
        self.nic.receive(0, sent)
        self.wait(lambda: self.total("rx_completed") == before + count, "every frame")
        return sent

    def release(self, count: int | None = None) -> None:
        """The consumer gives back what it kept."""
        for _ in range(len(self.kept) if count is None else count):
            self.driver.queues[0].release(self.kept.pop(0))

    def conserved(self) -> None:
        """Every buffer is the device's, free."""
        self.wait(lambda: len(self.pool.free) == SIZE, "every buffer to come back")
        assert sorted(self.pool.free) == list(range(SIZE))
        assert self.pool.refused == 0
        assert not self.pool.out


def charged(bench: Bench) -> dict[str, int]:
    """How often each operation was charged."""
    return {name: count for name, (count, _) in bench.system.operations().items() if count}


def test_forwarding_costs_nothing_for_buffers() -> None:
    kit = Kit("tx")

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        before, writes = charged(kit), kit.driver.queues[0].napi.polls
        for seed in range(10):
            kit.receive(100, seed)
        kit.wait(lambda: kit.total("tx_packets") == 1000 + SIZE, "every frame to be sent")
        spent = {name: count - before.get(name, 0) for name, count in charged(kit).items()}
        assert not [name for name, count in spent.items() if count and name.startswith(MANAGEMENT)]
        polls = kit.driver.queues[0].napi.polls - writes
        assert (spent["rx.descriptor"], spent["tx.descriptor"]) == (1000, 1000)
        assert spent["tx.clean"] <= 2 * polls < 200, "one for each completion"
        assert spent["mmio.write"] <= 3 * polls, "two doorbells and the arming"
        assert kit.pool.return_writes == []
        kit.conserved()
        kit.finish()

    kit.run(run)
    assert kit.driver.queues[0].supply.ring.producer == 0, "no descriptor was posted"
    assert kit.driver.ethtool_statistics()["hwp_recycled"] == 1000 + SIZE


def test_what_is_dropped_goes_back_four_at_a_time() -> None:
    kit = Kit("drop")

    def run() -> None:
        kit.start()
        kit.receive(SIZE)
        kit.pool.return_writes.clear()
        before = charged(kit)
        kit.receive(SIZE - 2)
        assert [len(ids) for ids in kit.pool.return_writes] == [4] * (SIZE // 4 - 1) + [2]
        spent = {name: count - before.get(name, 0) for name, count in charged(kit).items()}
        found = {name: count for name, count in spent.items() if count and name.startswith(MANAGEMENT)}
        assert found == {"dma.sync_for_device": SIZE - 2}
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
        kit.driver.queues[0].release(kit.kept[0])
        kit.release()
        pool = kit.strategy.pool
        assert pool is not None
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


@pytest.mark.parametrize(
    ("request_", "recycled"),
    [
        (TxRequest(csum_start=34, csum_offset=16), 5),
        (TxRequest(csum_start=34, csum_offset=16, gso_type=GsoType.TCPV4, gso_size=1000, tcp_hdrlen=20), 0),
    ],
)
def test_software_gets_back_what_is_segmented(request_: TxRequest, recycled: int) -> None:
    def answer(queue: Any, fragments: Any, metadata: Any) -> None:
        assert queue.xmit([(buffer, length) for buffer, _, length in fragments], request_)

    kit = Kit("pass", consumer=answer, offloads=True)

    def run() -> None:
        kit.start()
        kit.receive(5, low=1400, high=1500)
        kit.wait(lambda: kit.total("tx_packets") == 5, "every frame to be sent")
        kit.conserved()
        kit.finish()

    kit.run(run)
    statistics = kit.driver.ethtool_statistics()
    assert (statistics["hwp_recycled"], statistics["hwp_returned"]) == (recycled, 5 - recycled)


@pytest.mark.parametrize(("kib", "message"), [(300, "No memory for a pool of 64 buffers"), (8, "No memory for")])
def test_without_memory_for_the_pool_nothing_is_open_and_nothing_is_left(kib: int, message: str) -> None:
    kit = Kit(queues=2, memory=kib << 10)

    def run() -> None:
        kit.driver.probe()
        for _ in range(2):
            with pytest.raises(OSError, match=message) as refusal:
                kit.driver.open()
            assert refusal.value.errno == errno.ENOMEM
            kit.nothing_left()
            assert {pool.state for pool in kit.nic.pools} == {PoolState.DISABLED}

    kit.run(run)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"pools": 0}, errno.EOPNOTSUPP, "hw_recycle needs a hardware pool for each of 1 queue pairs; .* has 0"),
        ({"pools": 1, "queues": 2}, errno.EOPNOTSUPP, "for each of 2 queue pairs; the device has 1"),
        ({"pool_buffers": 32}, errno.EINVAL, r"pool_size must be in 0\.\.32 on this device, not 64"),
    ],
)
def test_a_device_without_what_it_needs_is_refused(given: dict[str, int], error: int, message: str) -> None:
    kit = Kit(**given)

    def run() -> None:
        kit.driver.probe()
        with pytest.raises(OSError, match=message) as refusal:
            kit.driver.open()
        assert refusal.value.errno == error
        kit.nothing_left()

    kit.run(run)


@pytest.mark.parametrize(("ids", "expected"), [(1024, 256), (64, 64)])
def test_a_pool_is_as_large_as_both_rings_if_it_can_be(ids: int, expected: int) -> None:
    kit = Kit(pool_size=0, pool_buffers=ids)

    def run() -> None:
        kit.start()
        assert len(kit.pool.table) == expected
        kit.finish()

    kit.run(run)


def test_another_strategy_leaves_the_pools_of_a_device_alone() -> None:
    bench = Bench("page_pool", "tx", pools=1, rx_entries=16)

    def run() -> None:
        bench.start()
        assert bench.nic.queues[0].registers["rx_pool"] == bench.nic.queues[0].registers["tx_pools"] == 0
        bench.nic.receive(0, frames(50, 0))
        bench.wait(lambda: bench.total("tx_packets") == 50, "every frame to be sent")
        assert bench.nic.pools[0].state is PoolState.DISABLED
        bench.finish()

    bench.run(run)


class Touches(HwRecycle):
    """A bug: software looks at a buffer that is the device's again."""

    def look(self, buffer: PoolBuffer) -> None:
        """At its first bytes."""
        self.dev.core.load(buffer.address + self.headroom, 4)


class TouchesReleased(Touches):
    """After it was given back."""

    def release(self, buffer: PoolBuffer) -> None:
        """And look."""
        super().release(buffer)
        self.look(buffer)


class TouchesRecycled(Touches):
    """After its descriptor was written."""

    def recycle(self, buffer: PoolBuffer) -> tuple[int, int]:
        """And look."""
        found = super().recycle(buffer)
        self.look(buffer)
        return found


@pytest.mark.parametrize(("broken", "verdict"), [(TouchesReleased, XdpAction.DROP), (TouchesRecycled, XdpAction.TX)])
def test_touching_what_was_given_back_is_caught(broken: type[Touches], verdict: XdpAction) -> None:
    kit = Kit()

    def look(xdp: XdpBuff) -> XdpAction:
        xdp.load(0, 4)
        return verdict

    kit.driver.config = QueueConfig(broken, XdpProgram("look", look), rx_entries=16, tx_entries=16)

    def run() -> None:
        kit.start()
        kit.nic.receive(0, frames(2, 0))
        kit.wait(lambda: kit.total("rx_packets") == 2, "the frames")

    with pytest.raises(OwnershipError, match=r"cpu access of device memory: .* at tests/.*test_hw_recycle\.py:\d+"):
        kit.run(run)
