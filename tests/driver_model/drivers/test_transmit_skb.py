# SPDX-License-Identifier: BSD-2-Clause
"""SKBs on the transmit ring: what is mapped, what is dropped and counted, and that all come back."""

from collections.abc import Callable
from typing import Any

import pytest

from driver_model.memory.dma.api import DMA_MAPPING_ERROR, DirectDma
from driver_model.net.filter import FilterDrop
from driver_model.net.qdisc import Qdisc
from driver_model.net.skb.edit import skb_add_rx_frag
from driver_model.net.skb.memory import ReceivedBuffer
from driver_model.net.skb.sk_buff import SkBuff, skb_load, skb_put
from hw.abi.rings import QueueError
from tests.driver_model import fake_nic
from tests.driver_model.stack_bench import MS, StackBench


class Owner:
    """Frees the pages of fragments."""

    def __init__(self, bench: StackBench) -> None:
        self.core, self.bench = bench.core, bench

    def release(self, buffer: Any) -> None:
        """Free one."""
        self.bench.host.pages[0].put_page(buffer)


class Kit:
    """An open queue pair, and SKBs for it."""

    def __init__(self, **options: Any) -> None:
        self.bench = StackBench("page_per_packet", lambda bench, core: FilterDrop(), **options)
        self.owner = Owner(self.bench)

    def skb(self, head: bytes, *frags: bytes) -> SkBuff:
        """An SKB with a head of kmalloc."""
        core, softnet = self.bench.core, self.bench.host.softnets[0]
        core.softirq.disable()
        skb = softnet.skbs.alloc_skb(len(head))
        core.softirq.enable()
        assert skb is not None
        core.store_owned(skb_put(skb, len(head)), head)
        skb.touched = skb.tail
        for frag in frags:
            page = self.bench.host.pages[0].alloc_pages()
            assert page is not None
            core.store_owned(page.address, frag)
            memory = ReceivedBuffer(self.owner, page, page.size, writable=False, recycles=False)
            skb_add_rx_frag(softnet.skbs, skb, memory, page.address, len(frag))
        return skb

    def xmit(self, skb: SkBuff, *, more: bool = False) -> bool:
        """As a qdisc does, in a softirq."""
        core = self.bench.core
        core.softirq.disable()
        taken = self.bench.driver.queues[0].skbs.start_xmit(skb, more)
        core.softirq.enable()
        return taken

    def run(self, body: Callable[[], None]) -> None:
        """Open, do something, close; nothing is left."""

        def whole() -> None:
            self.bench.start()
            body()
            self.bench.close()

        self.bench.run(whole)

    def sent(self, count: int) -> list[bytes]:
        """Wait for so many frames."""
        self.bench.wait(lambda: self.bench.total("tx_packets") == count, f"{count} frames")
        return self.bench.sent()


def test_the_linear_part_and_each_fragment_are_mapped_and_sent() -> None:
    kit = Kit()

    def body() -> None:
        before = kit.bench.core.op("dma.map").count
        assert kit.xmit(kit.skb(b"a" * 100, b"b" * 50, b"c" * 7))
        assert kit.xmit(kit.skb(b"", b"d" * 80))
        assert kit.bench.core.op("dma.map").count - before == 4
        assert kit.bench.core.op("tx.descriptor").count == 4
        assert kit.sent(2) == [b"a" * 100 + b"b" * 50 + b"c" * 7, b"d" * 80]

    kit.run(body)


def test_short_frames_are_padded_with_zeros() -> None:
    kit = Kit()

    def body() -> None:
        kit.xmit(kit.skb(b"a" * 42))
        kit.xmit(kit.skb(b"a" * 10, b"b" * 10))
        kit.xmit(kit.skb(b"a" * 64))
        assert kit.sent(3) == [b"a" * 42 + bytes(18), b"a" * 10 + b"b" * 10 + bytes(40), b"a" * 64]

    kit.run(body)


@pytest.mark.parametrize(("device", "ring", "descriptors"), [(2, 512, 1), (5, 512, 17), (5, 16, 1), (5, 8, 1)])
def test_a_packet_in_more_pieces_than_device_or_ring_take_is_made_linear(
    device: int, ring: int, descriptors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that stopped for it would never be woken: no room comes that is enough."""
    monkeypatch.setattr(fake_nic, "MAX_DESCRIPTORS", device)
    kit = Kit(tx_entries=ring)

    def body() -> None:
        frags = [bytes([at]) * 10 for at in range(16)]
        assert kit.xmit(kit.skb(b"a" * 60, *frags))
        assert kit.bench.core.op("tx.descriptor").count == descriptors
        assert kit.sent(1) == [b"a" * 60 + b"".join(frags)]

    kit.run(body)


def test_more_publishes_nothing_and_the_last_all() -> None:
    kit = Kit()

    def body() -> None:
        writes = kit.bench.core.op("mmio.write").count
        for at in range(5):
            kit.xmit(kit.skb(bytes([at]) * 60), more=True)
        kit.bench.core.sleep_until(kit.bench.core.time + MS)
        assert kit.bench.sent() == []
        assert kit.bench.core.op("mmio.write").count == writes
        kit.xmit(kit.skb(bytes([5]) * 60))
        assert kit.sent(6) == [bytes([at]) * 60 for at in range(6)]

    kit.run(body)


def test_a_drop_publishes_what_waited_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit()

    def body() -> None:
        kit.xmit(kit.skb(b"a" * 60), more=True)
        with monkeypatch.context() as patch:
            patch.setattr(DirectDma, "map", lambda *values: DMA_MAPPING_ERROR)
            assert kit.xmit(kit.skb(b"b" * 60))
        assert kit.bench.total("tx_dropped") == 1
        assert kit.sent(1) == [b"a" * 60]

    kit.run(body)


def test_a_piece_that_cannot_be_mapped_drops_the_packet_and_unmaps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit()
    mapping, calls = DirectDma.map, []

    def third_fails(*values: Any) -> int:
        calls.append(None)
        return DMA_MAPPING_ERROR if len(calls) == 3 else mapping(*values)

    def body() -> None:
        monkeypatch.setattr(DirectDma, "map", third_fails)
        assert kit.xmit(kit.skb(b"a" * 60, b"b" * 50, b"c" * 7))
        assert kit.bench.total("tx_dropped") == 1
        assert kit.bench.host.devices[0].map_errors == 1

    kit.run(body)


def test_a_frame_longer_than_the_device_sends_is_dropped() -> None:
    kit = Kit(max_frame=2000)

    def body() -> None:
        kit.xmit(kit.skb(b"a" * 2001))
        kit.xmit(kit.skb(b"a" * 2000))
        assert kit.sent(1) == [b"a" * 2000]
        assert kit.bench.total("tx_dropped") == 1

    kit.run(body)


def test_a_full_ring_leaves_the_packet_to_its_sender_and_wakes_the_queue() -> None:
    kit = Kit(tx_entries=8)
    woken: list[int] = []

    def body() -> None:
        kit.bench.driver.queues[0].tx.wake = lambda: woken.append(kit.bench.core.time)
        skbs = [kit.skb(bytes([at]) * 60) for at in range(9)]
        assert [kit.xmit(skb) for skb in skbs] == [True] * 8 + [False]
        assert skb_load(kit.bench.core, skbs[8], 0, 1) == b"\x08"
        kit.sent(8)
        kit.bench.core.sleep_until(kit.bench.core.time + MS)
        assert len(woken) == 1
        assert kit.xmit(skbs[8])
        kit.sent(9)

    kit.run(body)


@pytest.mark.parametrize("queued", [8, 40])
def test_a_device_that_stops_with_packets_on_the_ring_and_in_the_qdisc(queued: int) -> None:
    """What is on the ring is aborted; what waits for room finds out that there is no ring, and is dropped."""
    kit = Kit(tx_entries=8)
    bench = kit.bench

    def body() -> None:
        bench.start()
        (qdisc,) = bench.qdiscs
        skbs = [kit.skb(bytes([at]) * 60) for at in range(queued)]
        bench.core.softirq.disable()
        for skb in skbs:
            qdisc.dev_queue_xmit(skb)
        assert (qdisc.backlog, len(bench.host.live_skbs)) == (queued - 8, queued)
        bench.nic.fail(0, "tx", QueueError.RING_READ)
        bench.core.softirq.enable()
        bench.driver.stop()
        bench.core.sleep_until(bench.core.time + MS)
        bench.nic.bad_doorbells = 0  # of who did not know yet
        bench.nothing_left()
        assert qdisc.backlog == 0

    bench.run(body)
    statistics = {name: bench.total(name) for name in ("tx_packets", "tx_aborted", "tx_dropped")}
    assert sum(statistics.values()) == queued
    assert statistics["tx_aborted"] > 0
    assert (statistics["tx_dropped"] > 0) is (queued > 8)


def test_a_packet_round_the_end_of_a_ring_that_is_given_up_is_unmapped_before_it_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit = Kit(tx_entries=8)

    def body() -> None:
        for at in range(6):
            kit.xmit(kit.skb(bytes([at]) * 60))
        kit.sent(6)
        monkeypatch.setattr(kit.bench.nic, "_send", lambda queue: None)
        kit.xmit(kit.skb(b"a" * 60, b"b" * 50, b"c" * 40, b"d" * 30))

    kit.run(body)
    assert kit.bench.total("tx_aborted") == 1


def test_after_the_queue_closed_a_packet_is_dropped_and_counted() -> None:
    kit = Kit()
    queues: list[Any] = []

    def body() -> None:
        queues.append(kit.bench.driver.queues[0])

    kit.run(body)
    skb = kit.skb(b"a" * 60)
    qdisc = Qdisc(kit.bench.host.softnets[0], queues[0].skbs)
    assert qdisc.dev_queue_xmit(skb)
    assert queues[0].statistics.tx_dropped == 1
    kit.bench.nothing_left()


def test_the_holder_of_a_packet_on_the_ring() -> None:
    kit = Kit()

    def body() -> None:
        skb = kit.skb(b"a" * 60)
        kit.xmit(skb, more=True)
        assert "held by TX ring 0" in repr(skb)

    kit.run(body)
