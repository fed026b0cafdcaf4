# SPDX-License-Identifier: BSD-2-Clause
"""One table: every buffer strategy with every consumer, on one and two queues and cores, frames small, large, and over
several buffers; bytes are compared end to end, and nothing is left over."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from driver_model.drivers.strategies import STRATEGIES
from driver_model.drivers.strategies.base import NO_OPTIONS, PoolOptions
from driver_model.net.filter import FilterDrop
from driver_model.net.forward import IpForward
from driver_model.net.ip import address
from driver_model.net.local_socket import LocalSocket
from driver_model.net.nat import SourceNat
from driver_model.net.pin_socket import PinSocket
from driver_model.net.stack import Handler
from sim.traffic.flows import Flows
from tests.driver_model.bench import Bench
from tests.driver_model.stack_bench import MS, StackBench, forwarded

SIZES = (60, 60, 300, 1514, 60, 4000, 9000)
FRAMES = 35
OUTSIDE = "192.168.7.1"
MACHINES = ((1, 1), (1, 2), (2, 2))  #: cores and queues
SUPPLIES = {name: (name, NO_OPTIONS) for name in STRATEGIES} | {
    "page_pool_fragments": ("page_pool", PoolOptions(fragment_bytes=2048)),
    "page_pool_unrecycled": ("page_pool", PoolOptions(skb_recycles=False)),
}  #: strategies, and page_pool's as its options make them
SUPPLY = pytest.mark.parametrize("supply", SUPPLIES)


@cache
def traffic(queues: int) -> tuple[tuple[bytes, ...], ...]:
    """Frames for each queue, each flow on one of them."""
    flows = Flows(4 * queues, queues, seed=11)
    return tuple(
        tuple(flows.frame(queue + queues * (at % 4), SIZES[at % len(SIZES)], at) for at in range(FRAMES))
        for queue in range(queues)
    )


@cache
def routed(queues: int, source: str | None) -> list[bytes]:
    """What should leave, in order."""
    frames = (frame for queue in traffic(queues) for frame in queue)
    return sorted(forwarded(frame, source, int.from_bytes(frame[34:36])) for frame in frames)


def run(bench: Bench, sent: Sequence[Sequence[bytes]], finish: Any) -> None:
    def body() -> None:
        bench.start()
        for at in range(FRAMES):
            for queue, frames in enumerate(sent):
                bench.nic.receive(queue, [frames[at]])
            bench.core.sleep_until(bench.core.time + 6 * 10**6)
        bench.wait(lambda: bench.total("rx_packets") == FRAMES * len(sent), "every frame")
        bench.core.sleep_until(bench.core.time + 2 * MS)
        finish()

    bench.run(body)


@pytest.mark.parametrize(("cores", "queues"), MACHINES)
@SUPPLY
@pytest.mark.parametrize("verdict", ["drop", "tx", "redirect", "pass"])
def test_verdicts(verdict: str, supply: str, cores: int, queues: int) -> None:
    sent = traffic(queues)
    strategy, pool = SUPPLIES[supply]
    bench = Bench(
        strategy, verdict, cores=cores, queues=queues, expected=sent, memory=8 << 20, rx_entries=64, pool=pool
    )
    run(bench, sent, bench.finish)
    whole = [
        [frame for frame in frames if len(frame) <= bench.driver.queues[0].strategy.buffer_length] for frames in sent
    ]
    counts = {
        "rx_xdp_drop": FRAMES * queues if verdict == "drop" else 0,
        "rx_xdp_tx": FRAMES * queues if verdict == "tx" else 0,
        "rx_xdp_redirect": sum(map(len, whole)) if verdict == "redirect" else 0,
        "rx_xdp_frags": FRAMES * queues - sum(map(len, whole)) if verdict == "redirect" else 0,
    }
    assert {name: bench.total(name) for name in counts} == counts
    assert [queue.sent for queue in bench.nic.queues] == (
        [list(frames) for frames in sent] if verdict == "tx" else whole if verdict == "redirect" else [[]] * queues
    )
    assert bench.collector.received == [FRAMES if verdict == "pass" else 0] * queues


STACK = pytest.mark.parametrize("consumer", ["none", "filter", "forward", "nat", "socket", "stream", "pin"])


@pytest.mark.parametrize(("cores", "queues"), MACHINES)
@SUPPLY
@STACK
def test_stack(consumer: str, supply: str, cores: int, queues: int) -> None:
    check_stack(consumer, supply, cores=cores, queues=queues, memory=8 << 20)


@SUPPLY
@STACK
def test_stack_with_pages_of_64_kib(consumer: str, supply: str) -> None:
    check_stack(consumer, supply, page_size=1 << 16, memory=24 << 20, pool_buffers=128)


def check_stack(consumer: str, supply: str, *, queues: int = 1, **options: Any) -> None:
    read: list[bytes] = []

    def handler(bench: StackBench, core: int) -> Handler | None:
        if consumer == "none":
            return None
        if consumer == "filter":
            return FilterDrop()
        if consumer == "forward":
            return IpForward(bench.routes[core])
        if consumer == "nat":
            return SourceNat(bench.routes[core], address(OUTSIDE))
        if consumer == "pin":
            return PinSocket(bench.host.cores[core], attacker, rcvbuf=1 << 26)
        stream = consumer == "stream"
        return LocalSocket(bench.host.pages[core], hold=MS // 2, rcvbuf=1 << 26, stream=stream, deliver=read.append)

    sent = traffic(queues)
    attacker = int.from_bytes(sent[0][0][26:30])
    strategy, pool = SUPPLIES[supply]
    bench = StackBench(strategy, handler, queues=queues, rx_entries=64, pool=pool, **options)
    run(bench, sent, bench.close)
    delivered = "no_handler" if consumer == "none" else "delivered"
    assert sum(getattr(stack.statistics, delivered) for stack in bench.stacks) == FRAMES * queues
    assert sum(softnet.skbs.statistics.freed for softnet in bench.host.softnets) == FRAMES * queues
    leaving = {"forward": routed(queues, None), "nat": routed(queues, OUTSIDE)}.get(consumer, [])
    assert sorted(bench.sent()) == leaving
    whole = sorted(frame[14:] for frames in sent for frame in frames)
    if consumer == "stream":
        assert Counter(b"".join(read)) == Counter(b"".join(whole))
    else:
        assert sorted(read) == (whole if consumer == "socket" else [])
    if consumer == "pin":
        held = sum(up.statistics.held for up in bench.handlers if isinstance(up, PinSocket))
        assert held == sum(frame[26:30] == sent[0][0][26:30] for frames in sent for frame in frames)
