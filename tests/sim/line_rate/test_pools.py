# SPDX-License-Identifier: BSD-2-Clause
"""Receivers and senders whose buffers recycle in hardware, at line rate on the machine of the overload experiment."""

from dataclasses import asdict
from typing import Any

import pytest

from sim.backends.base import launch
from sim.config import preset
from sim.experiments.recycle_overload import RecycleOverload
from sim.line_rate.run import CARRIED, FORWARD, LineMeasurement, LineRun

LINE = 10.5  #: cycles of a 64-byte frame at 10g
FRAMES = 3000


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, int], LineMeasurement]:
    runs = [
        LineRun(direction=direction, recycle=True, queues=queues, frames=FRAMES, warm=1500, ring=256, pool=pool)
        for direction, queues, pool in ((FORWARD, 1, 256), (FORWARD, 4, 256), ("both", 1, 256), (FORWARD, 1, 1024))
    ]
    cases = [{"label": str(number), "run": asdict(run)} for number, run in enumerate(runs)]
    raw = launch("verilator", RecycleOverload().machine("10g"), "sim.line_rate.job:run_lines", cases)
    found = map(LineMeasurement.from_json, raw["cases"])
    return {(run.direction, run.queues, run.pool): each for run, each in zip(runs, found, strict=True)}


@pytest.mark.parametrize(("queues", "pool"), [(1, 256), (4, 256), (1, 1024)])
def test_frames_are_forwarded_at_line_rate_whether_or_not_the_ring_has_a_place_for_each_buffer(
    measured: Any, queues: int, pool: int
) -> None:
    found = measured[FORWARD, queues, pool]
    assert not found.dropped
    for way in ("rx", "tx"):
        assert float(found.cycles_per_frame(way)) == pytest.approx(LINE, rel=4 * queues / FRAMES + 0.002)


def test_both_directions_are_at_line_rate_when_no_descriptor_is_read(measured: Any) -> None:
    found = measured["both", 1, 256]
    assert not found.dropped
    # Return registers and doorbells cost the read channel some cycles: with descriptors read, sending takes 12.35.
    assert float(found.cycles_per_frame("rx")) == pytest.approx(LINE, rel=0.005)
    assert float(found.cycles_per_frame("tx")) == pytest.approx(LINE, rel=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": 64}, "pool must be 0 where buffers do not recycle, not 64"),
        ({"recycle": True}, "queues must be at most the 0 pools of the NIC, not 1"),
        ({"translation": CARRIED}, "Without an IOMMU, or nic.ats in the NIC, translations cannot be carried"),
    ],
)
def test_what_does_not_fit_the_machine_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineRun(**given).check(preset("10g"))


def test_a_pool_holds_no_more_than_its_ids() -> None:
    run = LineRun(recycle=True, pool=16384, ring=256)
    with pytest.raises(ValueError, match="must be at most the 8192 ids of a pool, not 16384"):
        run.check(RecycleOverload().machine("10g"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"direction": "back"}, "direction must be one of rx, tx, both, forward, not 'back'"),
        ({"direction": FORWARD, "size": 9000}, "size must be at most 2052 to be forwarded, not 9000"),
        ({"translation": "guessed"}, "translation must be one of untranslated, prefetched, carried, not 'guessed'"),
    ],
)
def test_a_run_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineRun(**given)
