# SPDX-License-Identifier: BSD-2-Clause
"""Who limits, and what a packet takes, by made-up counts."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from hw.config import IommuConfig
from sim.config import MachineConfig, preset
from sim.host.link_config import link_preset
from sim.host.stream_account import StreamCount
from sim.stream_rows import stream_rows
from sim.streams import WAYS, bottleneck, record_names, stages, stream_ends

MACHINE = preset("10g", memory_size=16 << 20)
MACHINE = replace(MACHINE, nic=replace(MACHINE.nic, probes=True))
WITH_IOMMU = replace(MACHINE, iommu=IommuConfig())
IDLE = StreamCount(1000, 0, 0, 1000)


def count(moved: int, stalled: int = 0, starved: int = 0) -> StreamCount:
    return StreamCount(1000, moved, stalled, starved)


def limit(direction: str, counts: Mapping[str, StreamCount], machine: MachineConfig = MACHINE) -> str:
    return bottleneck(stages(direction, machine, dict.fromkeys(record_names(machine), IDLE) | counts)).name


@pytest.mark.parametrize("machine", [MACHINE, WITH_IOMMU], ids=["plain", "iommu"])
def test_a_way_leads_from_part_to_part(machine: MachineConfig) -> None:
    ends = stream_ends(machine)
    for direction, way in WAYS.items():
        there = [name for name in way if name in ends]
        assert len(there) == len(way) - (0 if machine.iommu else {"rx": 1, "tx": 2}[direction])
        for name, following in pairwise(there):
            assert ends[name].sink == ends[following].source, f"{name} to {following}"


def working(**changes: StreamCount) -> dict[str, float]:
    counts = dict.fromkeys(record_names(MACHINE), IDLE) | changes
    return {stage.name: stage.working for stage in stages("rx", MACHINE, counts)}


def test_a_part_works_when_it_neither_lacks_work_nor_is_held_up() -> None:
    found = working(rx_frames=count(500, 300), rx_parsed=count(500, 250), rx_steered=count(400, 200))
    assert found["classifier"] == pytest.approx(80 - 25)
    assert found["steering"] == pytest.approx(75 - 20)
    assert found["planner"] == pytest.approx(60)


def test_what_waits_counts_only_if_it_holds_up_those_before() -> None:
    assert working(rx_parsed=count(500), rx_steered=count(500, 500), rx_segments=count(500))["planner"] == 50
    assert working(axi_w=count(780, 0, 220), host_w=count(780, 220))["memory"] == 78


def test_a_part_that_takes_one_frame_and_gives_eight_beats_works_while_it_gives() -> None:
    assert working(rx_segments=count(100), rx_data=count(800))["RX writer"] == 80


def test_the_wire_limits_what_keeps_up_with_it() -> None:
    kept_up = {name: count(600, 50) for name in WAYS["rx"] if name != "wire_rx"}
    assert limit("rx", kept_up | {"wire_rx": count(600, 0, 400)}) == "wire"


@pytest.mark.parametrize(
    ("stalled", "part"),
    [("rx_frames", "classifier"), ("rx_steered", "planner"), ("axi_w", "link"), ("host_w", "memory")],
)
def test_who_stalls_all_before_it_limits(stalled: str, part: str) -> None:
    way = [name for name in WAYS["rx"] if name in stream_ends(MACHINE)]
    place = way.index(stalled)
    counts = {name: count(500, 500) for name in way[1 : place + 1]}
    counts |= {name: count(500, 0, 500) for name in way[place + 1 :]}
    counts["wire_rx"] = count(500, 0, 500)  # nothing holds back the wire: frames are dropped
    assert limit("rx", counts) == part


def test_iommu_and_a_wire_that_takes_no_more() -> None:
    counts = {name: count(500, 500) for name in WAYS["rx"]}
    counts |= {"wire_rx": count(500, 0, 500), "memory_w": count(500, 0, 500)}
    assert limit("rx", counts, WITH_IOMMU) == "IOMMU"
    sent = {name: count(90, 900) for name in WAYS["tx"] if name in stream_ends(MACHINE)}
    assert limit("tx", sent | {"wire_tx": count(760, 240)}) == "wire"


def test_a_full_channel_limits_where_it_is_filled() -> None:
    counts = {name: count(500, 400) for name in WAYS["rx"]}
    counts |= {"wire_rx": count(1000), "rx_data": count(889, 111)}
    counts |= {name: count(1000) for name in ("axi_w", "host_w")}
    assert limit("rx", counts) == "DMA writer"


def test_rows_by_hand() -> None:
    counts = dict.fromkeys(record_names(MACHINE), IDLE)
    counts |= {"axi_ar_rx_descriptors": count(25), "rx_lines": count(50, 10), "rx_writes": count(100)}
    counts |= {"axi_aw": count(150), "up_bytes": count(9000), "down_bytes": count(2000)}
    rows = {row.name: row.value for row in stream_rows({}, MACHINE, counts, {"rx": Fraction(1, 10)})}
    assert rows["rx_descriptor_reads"] == Fraction(1, 4)
    assert rows["rx_completion_writes"] == Fraction(1, 2)
    assert rows["rx_data_writes"] == 1
    assert rows["axi.aw"] == Fraction(3, 2)
    assert (rows["up_bytes"], rows["down_bytes"]) == (90, 20)
    assert rows["up_share"] == 900 / MACHINE.link.bytes_per_cycle(156_250)
    assert (rows["stream.rx_lines.busy"], rows["stream.rx_lines.stalled"]) == (5, 1)
    assert rows["rx_limit"] == "wire"
    assert "tx_limit" not in rows
    wires = replace(MACHINE, link=link_preset("on-chip"))
    assert "up_bytes" not in {row.name for row in stream_rows({}, wires, counts, {"rx": Fraction(1, 10)})}
