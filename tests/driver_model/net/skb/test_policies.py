# SPDX-License-Identifier: BSD-2-Clause
"""Whatever the policy, traffic comes through whole and nothing is left; what it saves shows in what is charged."""

from collections.abc import Callable

import pytest

from driver_model.net.filter import FilterDrop
from driver_model.net.forward import IpForward
from driver_model.net.local_socket import LocalSocket
from driver_model.net.skb.policy import POLICY_2016, Clearing, Delay, Head, HeadMemory, NapiCache, Place, SkbPolicy
from driver_model.net.stack import Handler
from sim.traffic.flows import Flows
from tests.driver_model.stack_bench import MS, StackBench, forwarded

FRAMES = 120
SENT = [Flows(1, 1, seed=8).frame(0, (60, 1514, 300, 4000)[at % 4], at) for at in range(FRAMES)]
ROUTED = [forwarded(frame) for frame in SENT]

POLICIES = {
    "current": SkbPolicy(),
    "2016": POLICY_2016,
    "head copied": SkbPolicy(head=Head.COPY),
    "head copied to a fragment": SkbPolicy(head=Head.COPY, head_memory=HeadMemory.FRAGMENT),
    "in the headroom": SkbPolicy(place=Place.HEADROOM),
    "in the tailroom": SkbPolicy(place=Place.TAILROOM),
    "in the tailroom, delayed": SkbPolicy(place=Place.TAILROOM, clearing=Clearing.DELAYED, delay=Delay.RCU),
    "bulk free": SkbPolicy(napi_cache=NapiCache.BULK_FREE),
    "no cache": SkbPolicy(napi_cache=NapiCache.OFF, bulk_lists=False, delay=Delay.NONE),
    "bulk heads": SkbPolicy(head=Head.COPY, bulk_heads=True),
    "grace periods": SkbPolicy(delay=Delay.RCU),
    "grace periods, bulk heads": SkbPolicy(head=Head.COPY, bulk_heads=True, delay=Delay.RCU),
    "cleared in bulk": SkbPolicy(clearing=Clearing.BULK),
    "cleared by section": SkbPolicy(clearing=Clearing.SECTION),
    "not prefetched": SkbPolicy(prefetchw=False),
}
HANDLERS: dict[str, Callable[[StackBench, int], Handler]] = {
    "filter": lambda bench, core: FilterDrop(),
    "forward": lambda bench, core: IpForward(bench.routes[core]),
    "socket": lambda bench, core: LocalSocket(bench.host.pages[core], hold=MS // 4, rcvbuf=1 << 22, stream=True),
}


def run(strategy: str, handler: str, policy: SkbPolicy) -> StackBench:
    bench = StackBench(strategy, HANDLERS[handler], skb_policy=policy, memory=8 << 20, rx_entries=128)

    def body() -> None:
        bench.start()
        bench.send(0, SENT)
        bench.wait(lambda: bench.total("rx_packets") == FRAMES, "every frame")
        bench.core.sleep_until(bench.core.time + 10 * MS)
        bench.close()

    bench.run(body)
    return bench


@pytest.mark.parametrize("strategy", ["page_per_packet", "fragments"])
@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_traffic_comes_through(policy: str, handler: str, strategy: str) -> None:
    bench = run(strategy, handler, POLICIES[policy])
    assert bench.sent() == (ROUTED if handler == "forward" else [])
    statistics = bench.host.softnets[0].skbs.statistics
    assert statistics.allocated == statistics.freed == FRAMES
    (up,) = bench.handlers
    if isinstance(up, LocalSocket):
        assert up.statistics.read_bytes == sum(len(frame) - 14 for frame in SENT)


def spent(handler: str, policy: str, strategy: str = "page_per_packet") -> int:
    """Picoseconds of operations that are SKBs' and their memory's."""
    bench = run(strategy, handler, POLICIES[policy])
    kinds = ("skb.", "slab.", "page_frag.", "atomic", "llc.load", "cpu.prefetchw")
    return sum(op.count * op.ps for op in bench.core.operations if op.name.startswith(kinds))


def test_what_policies_save() -> None:
    """Orders only, of one run each."""
    current = spent("filter", "current")
    assert spent("filter", "bulk free") > current, "reuse spares the slab"
    assert spent("filter", "no cache") > spent("filter", "in the tailroom"), (
        "nothing is allocated, but lines are fetched"
    )
    assert spent("filter", "not prefetched") > current
    assert spent("forward", "2016") > spent("forward", "head copied"), "six years later"
