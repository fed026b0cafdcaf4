# SPDX-License-Identifier: BSD-2-Clause
"""Offloads from what the driver is asked for to the wire: byte for byte what scapy makes."""

import random
from pathlib import Path
from typing import Any

from sim.backends.base import Backend, launch
from sim.config import MachineConfig
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.source import Traffic
from tests.cosim.offloads import MACHINE, captured_traffic
from tests.cosim.sending import Plan, plan_of, random_plans
from tests.hw.nic.tx.packets import padded

HERE = "tests.cosim.test_send_offloads"


class Sending(Scenario):
    """What arrives is what a sender has in memory; what leaves is something else."""

    def _check_sent(self) -> None:
        assert not any(frame.error or frame.underrun for frame in self.sent)

    def _account(self, *measured: Any) -> Any:
        self._check_sent()
        assert self.checker is not None
        self.checker.finish()
        assert self.host.pages_in_use == self.driver.in_flight == 0


def send(backend: Backend, machine: MachineConfig, sends: list[list[Any]]) -> list[Any]:
    """For each strategy, plans carried out: frames that left, what was refused and with which error, the counters."""
    results = []
    for number, (strategy, traffic, plans) in enumerate(sends):
        if number:
            backend.reset()
        config = RunConfig(Traffic(**traffic), strategy=strategy, verdict="pass", queues=1)
        sender = Sender([Plan(**plan) for plan in plans])
        scenario = Sending(backend, machine, config, consumer=sender)
        scenario.run()
        sent = [frame.data.hex() for frame in scenario.sent]
        assert sender.done == len(plans)
        results.append({"sent": sent, "refused": sender.refused, "statistics": scenario.statistics})
    return results


class Sender:
    """A consumer that sends what arrives again, as planned."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans = plans
        self.done = 0
        self.refused: list[list[int]] = []  # number of the plan, and the error
        self.frames = 0
        self.pieces: list[tuple[Any, int]] = []

    def __call__(self, queue: Any, fragments: Any, metadata: Any) -> None:
        plan = self.plans[self.done]
        self.frames += 1
        self.pieces += [(buffer, length) for buffer, _, length in fragments]
        if self.frames < plan.frames:
            return
        try:
            assert queue.xmit(self.pieces, plan.request()), f"plan {self.done} found no room"
        except OSError as error:
            self.refused.append([self.done, error.errno or 0])
            for buffer, _ in self.pieces:
                queue.release(buffer)
        self.done += 1
        self.frames, self.pieces = 0, []


def test_what_was_asked_for_leaves_as_scapy_makes_it(tmp_path: Path) -> None:
    rng = random.Random(9)
    planned = random_plans(rng, 150)
    jobs = []
    for strategy in ("page_pool", "page_per_packet"):
        frames = [frame for each in planned for frame in each.arrives]
        traffic = captured_traffic(tmp_path / f"{strategy}.pcap", frames)
        jobs.append([strategy, traffic, [plan_of(each) for each in planned]])
    expected = padded(frame for each in planned for frame in each.leaves)
    requests = [each.plan.request() for each in planned]
    for result in launch("verilator", MACHINE, f"{HERE}:send", jobs):
        assert result["refused"] == [[at, each.errno] for at, each in enumerate(planned) if each.errno]
        sent = [bytes.fromhex(frame) for frame in result["sent"]]
        assert len(sent) == len(expected)
        for at, (frame, wanted) in enumerate(zip(sent, expected, strict=True)):
            assert frame == wanted, f"frame {at}"
        statistics = result["statistics"]
        good = [request for request, each in zip(requests, planned, strict=True) if not each.errno]
        assert statistics["queue0_tx_packets"] == len(good)
        assert statistics["queue0_tx_errors"] == statistics["queue0_tx_dropped"] == 0
        assert statistics["queue0_tx_tso_packets"] == sum(request.gso_type is not None for request in good) > 20
        assert statistics["queue0_tx_csum_partial"] == sum(request.csum_start is not None for request in good)
        assert statistics["queue0_tx_added_vlan_packets"] == sum(request.vlan_tci is not None for request in good) > 20
        assert statistics["nic_queue0_tx_packets"] == len(good)
        assert statistics["tx_frames"] == len(sent)
        assert statistics["nic_queue0_tx_offload"] == 0, "what the driver lets pass, the device does not refuse"
