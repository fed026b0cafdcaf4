# SPDX-License-Identifier: BSD-2-Clause
"""Random stalls between all parts of the machine, and slow software: nothing is lost, duplicated, reordered in a queue,
or hung."""

import random
from functools import cache
from typing import Any

import pytest

from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from hw.config import NicConfig
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.host.link_config import link_preset
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.flows import SEQUENCE, queue_mac, sequence_of
from sim.traffic.source import Traffic

SEEDS = range(1, 21)
FRAMES = 150
#: Short of everything: credits (a page is the least that a link can have), headers and tags, descriptors fetched ahead,
#: transactions under way; and a wire that sends at a quarter of the rate at which it receives.
MACHINE = preset(
    "10g",
    nic=NicConfig(fetch_depth=8, outstanding_reads=4, outstanding_writes=4),
    link=link_preset("gen3-x8", posted_credits=4096, posted_headers=3, read_tags=8),
    mac_mbps=2_500,
    stalls=True,
    access_log=True,
)
VERDICTS = (XdpAction.DROP, XdpAction.PASS, XdpAction.TX)


def calm(seed: int) -> bool:
    """Whether a seed's traffic leaves everybody enough time: then nothing may be dropped."""
    return seed % 2 == 0


def queues_of(seed: int) -> int:
    """Queue pairs, and cores, in use."""
    return 1 + seed // 2 % 2


def verdict(seed: int, number: int) -> XdpAction:
    """What becomes of a frame."""
    return random.Random(f"{seed} {number}").choice(VERDICTS)


class Software:
    """An XDP program that decides frame by frame, is sometimes slow, and remembers which frames it saw."""

    def __init__(self, seed: int, queues: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.seen: list[list[int]] = [[] for _ in range(queues)]
        self.slowest = 60 if calm(seed) else 500

    def run(self, xdp: XdpBuff) -> XdpAction:
        number = int.from_bytes(xdp.load(SEQUENCE.start, 8), "big")
        self.seen[xdp.queue].append(number)
        if self.rng.random() < 0.2:
            xdp.core.spend(xdp.core.device_line, self.rng.randint(1, self.slowest))  # of 5 ns each
        return verdict(self.seed, number)


def storm(backend: Backend, machine: MachineConfig, seeds: list[int]) -> list[Any]:
    """A run for each seed: what software saw, what left, and what was dropped."""
    results = []
    for index, seed in enumerate(seeds):
        if index:
            backend.reset()
        rng, queues = random.Random(seed), queues_of(seed)
        run = RunConfig(
            Traffic(
                rng.choice(("imix", "64", "internet", "64-1518", "64-9220")),
                frames=FRAMES,
                flows=8,
                queues=queues,
                load=rng.choice(("0.03", "0.06")) if calm(seed) else rng.choice(("0.5", "1")),
                seed=seed,
            ),
            strategy=rng.choice(("page_per_packet", "page_pool")),
            queues=queues,
            cores=queues,
            ring=256 if calm(seed) else rng.choice((16, 64)),
            **rng.choice(({}, {"moderation_cycles": 300, "moderation_count": 8})),
        )
        software = Software(seed, queues)
        scenario = Scenario(backend, machine, run, program=XdpProgram("storm", software.run, single_buffer=False))
        scenario.platform.set_stalls(rng.choice((40, 100, 160)), seed)
        measured = scenario.run()
        results.append(
            {
                "seed": seed,
                "dropped": measured.dropped,
                "delivered": measured.delivered,
                "seen": software.seen,
                "sent": [frame.data.hex() for frame in scenario.sent],
                "passed": scenario.passed.received,
            }
        )
    return results


@cache
def results() -> dict[int, Any]:
    return {result["seed"]: result for result in launch("verilator", MACHINE, f"{__name__}:storm", list(SEEDS))}


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_duplicated_or_reordered(seed: int) -> None:
    result, queues = results()[seed], queues_of(seed)
    assert result["delivered"] + sum(result["dropped"].values()) == FRAMES
    sent: list[list[int]] = [[] for _ in range(queues)]
    addresses = [bytes.fromhex(queue_mac(queue).replace(":", "")) for queue in range(queues)]
    for frame in map(bytes.fromhex, result["sent"]):
        sent[addresses.index(frame[:6])].append(sequence_of(frame))
    for queue in range(queues):
        offered = list(range(queue, FRAMES, queues))
        seen = result["seen"][queue]
        assert seen == sorted(set(seen))
        assert set(seen) <= set(offered)
        transmitted = [number for number in seen if verdict(seed, number) is XdpAction.TX]
        assert sent[queue] == sorted(set(sent[queue]))
        assert set(sent[queue]) <= set(transmitted)
        assert result["passed"][queue] == sum(verdict(seed, number) is XdpAction.PASS for number in seen)
        if not result["dropped"]:
            assert seen == offered
            assert sent[queue] == transmitted


def test_drops_come_from_overload_alone() -> None:
    """Half of the seeds leave everybody enough time, and drop nothing; some of the others must drop."""
    dropped = {seed: result["dropped"] for seed, result in results().items()}
    assert {seed: reasons for seed, reasons in dropped.items() if calm(seed) and reasons} == {}
    assert any(dropped.values())
