# SPDX-License-Identifier: BSD-2-Clause
"""Experiment 15 without a simulator: what is made of a measurement."""

from typing import Any

import pytest

from sim.experiments.base import Case
from sim.experiments.line_rate import LineRateExperiment
from sim.host.stream_account import StreamCount
from sim.line_rate.run import LineMeasurement, LineRun
from sim.streams import record_names

CYCLES = 1_050_000


def values(preset_name: str, direction: str, received: int, sent: int, **moved: int) -> dict[str, Any]:
    """Rows by name for so many 64-byte frames of each direction; with transfers of streams if any are given."""
    experiment = LineRateExperiment()
    machine = experiment.machine(preset_name)
    case = Case({"direction": direction, "size": "64"}, LineRun(direction=direction, frames=1000))
    streams = {name: StreamCount(CYCLES, moved.get(name, 0), 0, 0) for name in record_names(machine)} if moved else {}
    measured = LineMeasurement(CYCLES, received, sent, {}, streams)
    return {row.name: row.value for row in experiment.rows(machine, case, measured)}


def test_a_direction_at_line_rate_is_at_its_ceiling() -> None:
    found = values("10g", "rx", CYCLES * 2 // 21, 0)
    assert (found["bound"], found["share"]) == ("wire_rx", 100)
    assert (found["within_ceiling"], found["close_to_ceiling"], found["nothing_dropped"]) == (True, True, True)


def test_both_directions_share_the_read_channel_unequally() -> None:
    """At 10g descriptors and data take 2 and 10 beats; what reception leaves of them bounds what is sent."""
    received = CYCLES * 2 // 21
    sent = (CYCLES - 2 * received) // 10
    found = values("10g", "both", received, sent)
    assert found["bound"] == "wire_rx+axi_read"
    assert float(found["share"]) == pytest.approx(100, abs=0.01)
    assert (found["within_ceiling"], found["close_to_ceiling"]) == (True, True)
    assert float(found["tx_cycles"]) == pytest.approx(12.353, abs=0.001)
    assert found["ceiling_cycles"] == 12


@pytest.mark.parametrize(
    ("received", "sent", "within", "close"),
    [(0.1, 0.9, True, False), (0.9, 0.1, True, False), (1.01, 0.83, False, True)],
)
def test_each_direction_must_be_near_a_bound_and_none_beyond(
    received: float, sent: float, within: bool, close: bool
) -> None:
    line = CYCLES * 2 / 21
    found = values("10g", "both", int(line * received), int(line * sent))
    assert found["within_ceiling"] == within
    assert found["close_to_ceiling"] == close


@pytest.mark.parametrize(
    ("data", "descriptors", "within"), [(1, 1.01, True), (1.01, 1, True), (1.01, 1.01, False), (2, 2, False)]
)
def test_frames_sent_from_what_was_read_before_are_not_beyond_a_bound(
    data: float, descriptors: float, within: bool
) -> None:
    """A frame takes 8 beats of data, and 2 of its descriptor, of what reception leaves of the read channel."""
    received = CYCLES * 2 // 21
    frames = (CYCLES - 2 * received) // 10
    read = {"rx_fetched": 2 * received, "tx_fetched": int(2 * frames * descriptors), "tx_data": int(8 * frames * data)}
    found = values("10g", "both", received, int(frames * 1.005), **read)
    assert found["within_ceiling"] == within


@pytest.mark.parametrize(("queues", "entries"), [("1", 512), ("3", 512), ("10", 256), ("16", 256)])
def test_rings_share_their_entries_in_powers_of_two(queues: str, entries: int) -> None:
    experiment = LineRateExperiment()
    settings = {name: setting.default for name, setting in experiment.settings.items()} | {"queues": (queues,)}
    assert {case.run.ring for case in experiment.cases(experiment.machine("10g"), settings, "")} == {entries}
