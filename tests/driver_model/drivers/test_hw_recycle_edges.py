# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that recycle in the NIC: what is refused, what stays software's, and what is caught."""

import errno
from typing import Any

import pytest

from driver_model.drivers.offload import GsoType, TxRequest
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.strategies.hw_recycle import HwRecycle, PoolBuffer
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from hw.abi.pools import PoolState
from tests.driver_model.bench import Bench, frames
from tests.driver_model.recycle_kit import Kit


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
        ({"pool_max": 257}, errno.EINVAL, r"pool_max must be in 0\.\.256 on this device, not 257"),
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


@pytest.mark.parametrize(("size", "entries"), [(31, 64), (0, 8)])
def test_a_pool_that_may_be_held_in_advance_as_a_whole_is_refused(size: int, entries: int) -> None:
    drop = XdpProgram("drop", lambda xdp: XdpAction.DROP)
    config = QueueConfig(HwRecycle, drop, None, rx_entries=entries, tx_entries=entries, pool_size=size)
    with pytest.raises(
        OSError, match="at least 32 on this device, whose queues hold 16 buffers in advance, not"
    ) as error:
        config.check(1, 1, 1024, 16)
    assert error.value.errno == errno.EINVAL


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_smallest_pools_go_round(size: int) -> None:
    """Of a device that holds none in advance."""
    kit = Kit(pool_size=size)

    def run() -> None:
        kit.start()
        for number in range(10):
            kit.receive(size, number)
        kit.finish()

    kit.run(run)


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

    def recycle(self, buffer: PoolBuffer, *, own: bool) -> tuple[int, int] | None:
        """And look."""
        found = super().recycle(buffer, own=own)
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

    with pytest.raises(
        OwnershipError, match=r"cpu access of device memory: .* at tests/.*test_hw_recycle_edges\.py:\d+"
    ):
        kit.run(run)
