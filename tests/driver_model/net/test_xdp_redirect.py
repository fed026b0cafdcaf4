# SPDX-License-Identifier: BSD-2-Clause
"""XDP_REDIRECT: frames of one device leave by another, in bulk, and their buffers find back."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from driver_model.drivers.strategies import STRATEGIES
from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from driver_model.net.xdp_redirect import DEV_MAP_BULK_SIZE, BulkQueue, DevMap, bpf_redirect_map
from hw.abi.rings import QueueError
from tests.driver_model.bench import Bench, frames


class Target:
    """A device that takes so many frames at once."""

    def __init__(self, core: Any, room: int) -> None:
        self.core, self.room = core, room
        self.calls: list[int] = []

    def xdp_xmit(self, frames: Sequence[Any]) -> int:
        """Take some."""
        self.calls.append(len(frames))
        return min(self.room, len(frames))


class Frame:
    """A frame whose buffer goes back to a list."""

    def __init__(self, owner: Any, buffer: int) -> None:
        self.owner, self.buffer = owner, buffer


class Owner:
    """Who received it."""

    def __init__(self) -> None:
        self.back: list[int] = []

    def return_frames(self, buffers: Sequence[int]) -> None:
        """Take buffers back."""
        self.back += buffers


def test_sixteen_at_once_and_the_rest_at_the_end() -> None:
    bench, owner = Bench(), Owner()
    target = Target(bench.core, 99)
    bulk = BulkQueue(target)
    for at in range(DEV_MAP_BULK_SIZE + 3):
        bulk.enqueue(Frame(owner, at))
    assert target.calls == [16]
    bulk.flush()
    bulk.flush()
    assert (target.calls, bulk.sent, bulk.dropped) == ([16, 3], 19, 0)
    assert bench.core.op("xdp.redirect_flush").count == 2


def test_what_the_target_does_not_take_goes_back() -> None:
    bench, owner = Bench(), Owner()
    bulk = BulkQueue(Target(bench.core, 5))
    for at in range(8):
        bulk.enqueue(Frame(owner, at))
    bulk.flush()
    assert (bulk.sent, bulk.dropped, owner.back) == (5, 3, [5, 6, 7])


def test_a_map_of_devices() -> None:
    bench = Bench(cores=2)
    first, second = (Target(core, 1) for core in bench.system.cores)
    devmap = DevMap()
    with pytest.raises(ValueError, match="Entry 3 must have one queue pair or more"):
        devmap.update(3, [])
    devmap.update(3, [first, second])
    xdp = XdpBuff(bench.core, 0)
    assert devmap.lookup(3, bench.system.cores[1]) is second
    assert bpf_redirect_map(xdp, devmap, 3) is XdpAction.REDIRECT
    assert xdp.target is first
    assert bpf_redirect_map(xdp, devmap, 4) is XdpAction.ABORTED
    assert bpf_redirect_map(xdp, devmap, 4, XdpAction.PASS) is XdpAction.PASS
    devmap.update(3, [second])
    assert bpf_redirect_map(xdp, devmap, 3, XdpAction.DROP) is XdpAction.DROP
    devmap.delete(3)
    with pytest.raises(KeyError):
        devmap.delete(3)
    assert bench.core.op("xdp.redirect").count == 4


def redirecting(devmap: DevMap) -> XdpProgram:
    """A program that sends all by entry 0."""
    return XdpProgram("redirect by a map", lambda xdp: bpf_redirect_map(xdp, devmap, 0), single_buffer=True)


def run(strategy: str, body: Callable[[Bench], None], **options: Any) -> Bench:
    """What the first queue receives leaves by the second; ``body`` ends it."""
    devmap = DevMap()
    bench = Bench(strategy, redirecting(devmap), queues=2, memory=12 << 20, **options)

    def whole() -> None:
        bench.start()
        devmap.update(0, [bench.driver.queues[1]])
        body(bench)

    bench.run(whole)
    return bench


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frames_leave_by_another_queue_and_buffers_go_back_to_the_first(strategy: str) -> None:
    sent = frames(300, 6, high=1400)

    def body(bench: Bench) -> None:
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.driver.queues[1].statistics.tx_packets == 300, "every frame")
        bench.finish()

    bench = run(strategy, body)
    assert bench.nic.queues[1].sent == sent
    first, second = (queue.statistics for queue in bench.driver.queues)
    assert (first.rx_xdp_redirect, second.tx_xdp_xmit, second.tx_xdp_xmit_full) == (300, 300, 0)


def test_without_a_helper_that_says_where_to_a_frame_is_dropped() -> None:
    """Neither goes it back, nor where the one before went."""
    devmap, sent = DevMap(), frames(6, 9)
    seen: list[None] = []

    def every_other(xdp: XdpBuff) -> XdpAction:
        seen.append(None)
        return bpf_redirect_map(xdp, devmap, 0) if len(seen) % 2 else XdpAction.REDIRECT

    bench = Bench("page_pool", XdpProgram("forgetful", every_other), queues=2)

    def body() -> None:
        bench.start()
        devmap.update(0, [bench.driver.queues[1]])
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.total("tx_packets") == 3, "every other frame")
        bench.finish()

    bench.run(body)
    assert [queue.sent for queue in bench.nic.queues] == [[], sent[::2]]
    assert (bench.total("rx_xdp_redirect"), bench.total("rx_xdp_aborted")) == (3, 3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_full_target_drops_and_counts(strategy: str) -> None:
    sent = frames(200, 7, high=200)

    def body(bench: Bench) -> None:
        bench.nic.receive(0, sent)
        first, second = (queue.statistics for queue in bench.driver.queues)
        bench.wait(lambda: first.rx_packets == 200, "every frame")
        bench.wait(lambda: second.tx_packets + second.tx_xdp_xmit_full == 200, "each sent or dropped")
        bench.finish()

    bench = run(strategy, body, tx_entries=8)
    assert bench.driver.queues[1].statistics.tx_xdp_xmit_full > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_target_that_closes_with_frames_on_its_ring(strategy: str) -> None:
    """Their buffers go back to a queue pair that is closed already."""
    sent = frames(300, 8, high=1400)

    def body(bench: Bench) -> None:
        bench.nic.receive(0, sent)
        bench.nic.fail(1, "tx", QueueError.RING_READ)
        bench.wait(lambda: bench.driver.queues[0].statistics.rx_packets >= 100, "the first frames")
        bench.driver.stop()
        bench.nic.bad_doorbells = 0  # of who did not know yet
        bench.nothing_left()

    bench = run(strategy, body)
    assert bench.driver.queues[1].statistics.tx_aborted > 0
