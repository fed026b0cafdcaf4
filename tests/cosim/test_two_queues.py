# SPDX-License-Identifier: BSD-2-Clause
"""Two cores with a queue pair each: every queue's frames in order on its own core, none lost, the same every time."""

from typing import Any

from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.flows import sequence_of
from sim.traffic.source import Traffic

HERE = "tests.cosim.test_two_queues"
FRAMES = 400


def goes_back(sequence: int) -> bool:
    return sequence % 3 != 0


def observe(backend: Backend, machine: MachineConfig, traffic: str) -> dict[str, Any]:
    """A run in which the two queues' programs send back two frames of three; what each queue saw and did."""
    seen: list[list[list[int]]] = [[], []]  # for each queue: core, sequence number, time

    def verdict(xdp: XdpBuff) -> XdpAction:
        frame = scenario.platform.read(xdp.data, xdp.data_end - xdp.data)
        seen[xdp.queue].append([xdp.core.index, sequence_of(frame), xdp.core.time])
        return XdpAction.TX if goes_back(sequence_of(frame)) else XdpAction.DROP

    config = RunConfig(
        Traffic(traffic, frames=FRAMES, flows=6, queues=2, seed=11), verdict="tx", cores=2, queues=2, ring=128
    )
    scenario = Scenario(backend, machine, config, program=XdpProgram("two of three", verdict))
    measured = scenario.run()
    return {
        "seen": seen,
        "sent": [[frame.last, sequence_of(frame.data)] for frame in scenario.sent],
        "statistics": dict(measured.statistics),
        "end": backend.cycle,
    }


def subsequence(part: list[int], whole: list[int]) -> bool:
    rest = iter(whole)
    return all(each in rest for each in part)


def twice(backend: Backend, machine: MachineConfig, traffic: list[str]) -> list[Any]:
    """Two times the same runs in one process."""
    results = []
    for each in [*traffic, *traffic]:
        backend.reset()
        results.append(observe(backend, machine, each))
    return results


def test_each_queue_keeps_its_order_on_its_core() -> None:
    traffic = ["imix", "64"]
    machine = preset("10g", access_log=True)
    results = launch("verilator", machine, f"{HERE}:twice", traffic)
    assert results[:2] == results[2:]
    for result in results[:2]:
        statistics = result["statistics"]
        sent = [sequence for _, sequence in result["sent"]]
        for queue, seen in enumerate(result["seen"]):
            assert {core for core, _, _ in seen} == {queue}
            sequences = [sequence for _, sequence, _ in seen]
            expected = list(range(queue, FRAMES, 2))  # an even number of flows takes turns
            assert subsequence(sequences, expected)
            assert [time for _, _, time in seen] == sorted(time for _, _, time in seen)
            dropped = sum(value for name, value in statistics.items() if name.startswith(f"nic_queue{queue}_drop_"))
            assert len(sequences) + dropped == len(expected)
            back = [sequence for sequence in sequences if goes_back(sequence)]
            assert [sequence for sequence in sent if sequence % 2 == queue] == back
            assert statistics[f"nic_queue{queue}_tx_packets"] == len(back) > FRAMES // 10
        begins, ends = zip(*((seen[0][2], seen[-1][2]) for seen in result["seen"]))
        assert max(begins) < min(ends), "the cores worked one after the other"
        assert statistics["rx_frames"] == FRAMES
