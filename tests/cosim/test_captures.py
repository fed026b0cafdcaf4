# SPDX-License-Identifier: BSD-2-Clause
"""Every frame arrives byte-exact at the driver; sent back, it leaves so, in order, into captures that a reader which is
not ours opens."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import dpkt
import pytest

from driver_model.net.xdp import XdpAction, XdpBuff, XdpProgram
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.run import RunConfig
from sim.scenario import Scenario
from sim.traffic.capture import write_capture
from sim.traffic.flows import queue_mac
from sim.traffic.pacing import OVERHEAD_BYTES
from sim.traffic.sample import sample_capture
from sim.traffic.source import CAPTURE, Traffic

MACHINE = preset("10g", access_log=True)
LOAD = "0.25"  #: so that nobody has to drop


def traffic(kind: str, folder: Path) -> Traffic:
    if kind == CAPTURE:
        return Traffic(CAPTURE, frames=10_000, load=LOAD, capture=str(sample_capture(folder / "sample.pcapng", 12)))
    return Traffic(kind, frames=300, flows=8, queues=2, load=LOAD)


def play(backend: Backend, machine: MachineConfig, runs: list[Mapping[str, Any]]) -> list[list[list[str]]]:
    """Run after run, all that arrives sent back, and what leaves captured: the frames that XDP saw on each queue."""
    results = []
    for index, run in enumerate(runs):
        if index:
            backend.reset()
        arrived: list[list[str]] = [[], []]

        def keep(xdp: XdpBuff, arrived: list[list[str]] = arrived) -> XdpAction:
            arrived[xdp.queue].append(xdp.load(0, xdp.data_end - xdp.data).hex())
            return XdpAction.TX

        config = RunConfig(Traffic(**run["traffic"]), verdict="tx", queues=2)
        scenario = Scenario(backend, machine, config, program=XdpProgram("keep and send", keep))
        scenario.run()
        for name in run["sent"]:
            write_capture(name, scenario.captured())
        results.append(arrived)
    return results


def by_queue(frames: list[bytes]) -> list[list[bytes]]:
    """By destination; to queue 0 what is addressed to no queue."""
    second = bytes.fromhex(queue_mac(1).replace(":", ""))
    return [[frame for frame in frames if (frame[:6] == second) == queue] for queue in (False, True)]


def test_every_frame_arrives_and_leaves_byte_exact(tmp_path: Path) -> None:
    kinds = {"imix": tmp_path / "imix", CAPTURE: tmp_path / "capture"}
    offered = {kind: traffic(kind, tmp_path) for kind in kinds}
    runs = [
        {"traffic": asdict(offered[kind]), "sent": [f"{name}.pcap", f"{name}.pcapng"]} for kind, name in kinds.items()
    ]
    for kind, arrived in zip(kinds, launch("verilator", MACHINE, f"{__name__}:play", runs), strict=True):
        frames = [frame.data for frame in offered[kind].generate(MACHINE.nic.clock_khz)]
        assert len(frames) >= 200
        assert [[bytes.fromhex(frame) for frame in queue] for queue in arrived] == by_queue(frames)
        with open(f"{kinds[kind]}.pcap", "rb") as file:
            reader = dpkt.pcap.Reader(file)
            assert reader.datalink() == dpkt.pcap.DLT_EN10MB
            captured = list(reader)
        assert by_queue([frame for _, frame in captured]) == by_queue(frames)
        with open(f"{kinds[kind]}.pcapng", "rb") as file:
            assert [frame for _, frame in dpkt.pcapng.Reader(file)] == [frame for _, frame in captured]
        for (earlier, frame), (later, _) in pairwise(captured):
            wire_time = (len(frame) + OVERHEAD_BYTES) * 0.8e-9
            assert later - earlier > wire_time - 2 * MACHINE.cycle_ps * 1e-12, "sooner than the wire was free"


def test_every_size_comes_through(tmp_path: Path) -> None:
    """From the shortest frame to the longest that one buffer takes, sent back from both queues."""
    offered = Traffic("64-1518", frames=300, flows=2, queues=2, load=LOAD, seed=3)
    (arrived,) = launch("verilator", MACHINE, f"{__name__}:play", [{"traffic": asdict(offered), "sent": []}])
    frames = [frame.data for frame in offered.generate(MACHINE.nic.clock_khz)]
    assert [[bytes.fromhex(frame) for frame in queue] for queue in arrived] == by_queue(frames)


@pytest.mark.parametrize("verdict", ["pass", "tx"])
def test_frames_over_several_buffers_come_through(verdict: str) -> None:
    """Jumbo frames: the stack compares all their bytes, and so does the far end of the wire."""
    run = RunConfig(Traffic("1519-9220", frames=60, load=LOAD, seed=4), verdict=verdict)
    assert launch("verilator", MACHINE, f"{__name__}:jumbo", asdict(run)) == {"dropped": {}, "whole": False}


def jumbo(backend: Backend, machine: MachineConfig, run: Mapping[str, Any]) -> dict[str, Any]:
    scenario = Scenario(backend, machine, RunConfig(traffic=Traffic(**run["traffic"]), verdict=run["verdict"]))
    measured = scenario.run()
    assert measured.delivered == len(scenario.frames)
    collector = scenario.passed if run["verdict"] == "pass" else scenario.left
    assert collector.received == [len(scenario.frames)]
    return {"dropped": dict(measured.dropped), "whole": scenario.whole}
