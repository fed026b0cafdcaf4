# SPDX-License-Identifier: BSD-2-Clause
"""Runs at full rate: what they measure on the 100g machine, and what is refused."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from hw.config import IommuConfig
from sim.config import preset
from sim.experiments.line_rate import LineRateExperiment
from sim.experiments.runner import run_experiment
from sim.line_rate.run import PHYSICAL, LineRun

LINE = 84 * 250_000_000 * 8 / 100_000_000_000  #: cycles of 84 byte times at 100 Gbit/s


@pytest.fixture(scope="module")
def result() -> Any:
    given = {"sizes": "64+72", "iommu": "none", "frames": "4000", "warm": "6000"}
    return run_experiment(LineRateExperiment(), given, preset_name="100g")


@pytest.mark.parametrize("queues", ["1", "16"])
@pytest.mark.parametrize("direction", ["rx", "tx", "both"])
def test_100g_holds_line_rate_at_64_bytes(result: Any, direction: str, queues: str) -> None:
    case = {"direction": direction, "size": "64", "queues": queues}
    for way in ("rx", "tx") if direction == "both" else (direction,):
        # A look at the rings finds completions by lines.
        assert float(result.value(f"{way}_cycles", **case)) == pytest.approx(LINE, rel=4 * int(queues) / 4000 + 0.002)
    assert result.value("dropped", **case) == 0
    bound = {"rx": "wire_rx", "tx": "wire_tx", "both": "wire_rx+wire_tx"}
    assert result.value("bound", **case) == bound[direction]


def test_frames_of_two_beats_are_bound_by_axi(result: Any) -> None:
    case = {"direction": "rx", "size": "72", "queues": "1"}
    assert result.value("bound", **case) == "axi_write"
    assert float(result.value("ceiling_cycles", **case)) == 2.25
    assert result.value("within_ceiling", **case)
    assert float(result.value("share", **case)) > 95


@pytest.mark.parametrize("queues", ["1", "16"])
@pytest.mark.parametrize("direction", ["rx", "both"])
def test_small_frames_share_lines_of_descriptors_and_completions(result: Any, direction: str, queues: str) -> None:
    case = {"direction": direction, "size": "64", "queues": queues}
    assert result.value("four_to_a_line", **case)
    near = 4 * int(queues) / 4000 + 0.01  # what was under way at the beginning, and at the end
    assert float(result.value("rx_data_writes", **case)) == pytest.approx(1, rel=near)
    for name in ("rx_descriptor_reads", "rx_completion_writes"):
        assert float(result.value(name, **case)) == pytest.approx(0.25, rel=4 * near)


@pytest.mark.parametrize("queues", ["1", "16"])
def test_the_account_names_what_limits(result: Any, queues: str) -> None:
    for direction in ("rx", "tx"):
        case = {"direction": direction, "queues": queues}
        assert result.value(f"{direction}_limit", size="64", **case) == "wire"
        assert float(result.value("up_bytes", size="64", **case)) >= result.value("up_bytes.best", size="64", **case)
    wire = {"direction": "rx", "size": "64", "queues": queues}
    assert result.value("stream.wire_rx.busy", **wire) == pytest.approx(100 / LINE, rel=0.002)
    assert result.value("stream.wire_rx.stalled", **wire) == 0
    assert result.value("stream.tx_jobs.busy", **wire) == 0


def test_what_is_measured_is_by_direction() -> None:
    measured = LineRateExperiment.measurement(1000, 500, 250, {})
    assert (measured.cycles_per_frame("rx"), measured.cycles_per_frame("tx")) == (Fraction(2), Fraction(4))
    assert LineRateExperiment.measurement.from_json(measured.as_json()) == measured


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"direction": "up"}, "direction must be one of rx, tx, both, forward, not 'up'"),
        ({"size": 63}, r"size must be in 64..9220, not 63"),
        ({"queues": 17}, r"queues must be in 1..16, not 17"),
        ({"page": 8192}, r"page must be 0 or one of 4096, 65536, 2097152, not 8192"),
        ({"ring": 100}, r"ring must be a power of two.*100"),
    ],
)
def test_parameters(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineRun(**values)


def test_a_run_fits_its_machine() -> None:
    machine = preset("100g")
    LineRun().check(machine)
    with pytest.raises(ValueError, match="Page size 0 is for a machine without an IOMMU"):
        LineRun(page=4096).check(machine)
    with pytest.raises(ValueError, match="Page size 0 is for a machine without an IOMMU"):
        LineRun().check(replace(machine, iommu=IommuConfig()))
    with pytest.raises(ValueError, match="queues must be at most the 8 of the NIC, not 16"):
        LineRun(queues=16).check(replace(machine, nic=replace(machine.nic, queues=8)))
    with pytest.raises(ValueError, match="of memory"):
        LineRun(queues=16, size=9000).check(machine)


def test_no_two_things_share_memory() -> None:
    run = LineRun(queues=3, size=1518, ring=64)
    places = [(run.rings(queue, way), 2 * 64 * 16) for queue in range(3) for way in range(2)]
    for queue in range(3):
        for way in range(2):
            buffers = run.buffers(queue, way)
            places.append((buffers.base, buffers.stride * buffers.count))
            assert buffers.headroom + buffers.size <= buffers.stride
    places.sort()
    assert places[0][0] == PHYSICAL
    for (start, length), (following, _) in pairwise(places):
        assert start + length <= following
    assert places[-1][0] + places[-1][1] <= run.end
