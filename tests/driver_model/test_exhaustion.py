# SPDX-License-Identifier: BSD-2-Clause
"""The n-th allocation fails, for every n: nothing leaks, every frame is accounted for, and traffic goes on."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.strategies import STRATEGIES
from driver_model.memory.dma.api import DMA_MAPPING_ERROR, DirectDma
from driver_model.memory.pages.allocator import PageAllocator
from driver_model.memory.slab.allocator import Slab
from driver_model.net.forward import IpForward
from driver_model.net.local_socket import LocalSocket
from driver_model.net.stack import Handler
from sim.traffic.flows import Flows
from tests.driver_model.stack_bench import MS, StackBench

FRAMES = 12
SIZES = (60, 300, 1514, 4000)
SENT = [Flows(1, 1, seed=2).frame(0, SIZES[at % len(SIZES)], at) for at in range(FRAMES)]


class Faults:
    """Counts what is asked for while it is on, and refuses the one of number ``at``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.count = self.at = 0
        for owner, name, refusal in (
            (PageAllocator, "alloc_pages", None),
            (PageAllocator, "alloc_pages_bulk", 0),
            (Slab, "kmem_cache_alloc", None),
            (Slab, "kmem_cache_alloc_bulk", 0),
            (Slab, "kmalloc", None),
            (DirectDma, "map", DMA_MAPPING_ERROR),
        ):
            monkeypatch.setattr(owner, name, self._wrap(getattr(owner, name), refusal))

    def _wrap(self, function: Callable[..., Any], refusal: Any) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            if self.on:
                self.count += 1
                if self.count == self.at:
                    return refusal
            return function(*values, **named)

        return call


def forward(bench: StackBench, core: int) -> Handler:
    return IpForward(bench.routes[core])


def hold(bench: StackBench, core: int) -> Handler:
    return LocalSocket(bench.host.pages[core], hold=MS // 10, stream=True, rcvbuf=1 << 20)


def accounted(bench: StackBench) -> int:
    """Frames of which it is known what became of them."""
    (handler,), (stack,) = bench.handlers, bench.stacks
    count = stack.statistics.no_memory + bench.total("rx_errors")
    if isinstance(handler, IpForward):
        statistics = handler.statistics
        return count + statistics.no_memory + bench.total("tx_dropped") + len(bench.sent())
    assert isinstance(handler, LocalSocket)
    return count + handler.statistics.queued + handler.statistics.dropped


def run(
    strategy: str, handler: Callable[[StackBench, int], Handler], faults: Faults, at: int
) -> tuple[StackBench, bool]:
    """Open, receive, close, with one refusal; whether it could be opened."""
    faults.on, faults.count, faults.at = False, 0, at
    bench = StackBench(strategy, handler, checked=False, rx_entries=16, tx_entries=16)
    opened: list[bool] = []

    def body() -> None:
        faults.on = True
        try:
            bench.start()
        except OSError as error:
            assert error.errno == errno.ENOMEM
            return
        opened.append(True)
        bench.send(0, SENT)
        bench.wait(lambda: bench.total("rx_packets") + bench.total("rx_errors") == FRAMES, f"frames, {at=}")
        bench.core.sleep_until(bench.core.time + MS)
        bench.close()
        faults.on = False

    bench.run(body)
    return bench, bool(opened)


@pytest.mark.parametrize("handler", [forward, hold])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_allocation_fails_once(
    strategy: str, handler: Callable[[StackBench, int], Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    bench, _ = run(strategy, handler, faults, 0)
    assert accounted(bench) == FRAMES
    refusals = faults.count
    assert refusals > 10
    running = 0
    for at in range(1, refusals + 1):
        bench, opened = run(strategy, handler, faults, at)
        bench.host.drain()
        assert bench.host.leaks() == [], at
        assert bench.driver.in_flight == 0, at
        statistics = bench.host.softnets[0].skbs.statistics
        assert statistics.allocated == statistics.freed, at
        if opened:
            running += 1
            assert accounted(bench) == FRAMES, at
    assert running, "nothing ever ran"
