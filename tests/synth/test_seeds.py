# SPDX-License-Identifier: BSD-2-Clause
"""Placements are tried until one reaches the clock."""

import json

import pytest
from rich.console import Console

from synth import __main__ as synth


def placed(mhz):
    return {"fmax": {"clk": {"achieved": mhz}}, "critical_paths": [], "detailed_net_timings": []}


@pytest.mark.parametrize(
    ("reached", "tried", "best"),
    [
        ([160.0], {"1": 160.0}, 160.0),
        ([150.0, 145.0, 157.0], {"1": 150.0, "2": 145.0, "3": 157.0}, 157.0),
        ([150.0, 155.0, 145.0], {"1": 150.0, "2": 155.0, "3": 145.0}, 155.0),
        ([100.0], {"1": 100.0}, 100.0),
    ],
    ids=["the first", "the third", "none", "too far away to go on"],
)
def test_seeds_are_tried_until_the_clock_is_reached(reached, tried, best, monkeypatch, tmp_path):
    monkeypatch.setattr(synth, "synthesize", lambda design, folder: ({}, {}))
    monkeypatch.setattr(synth, "version", lambda tool: "1")
    monkeypatch.setattr(synth, "place_and_route", lambda clock, folder, seed: placed(reached[seed - 1]))
    result = synth.build("nic-10g", tmp_path, range(1, 4), Console(quiet=True))
    assert result.fmax_mhz == best
    kept = json.loads((tmp_path / "nic-10g.json").read_text())
    assert kept["seeds"] == tried
    assert kept["fmax_mhz"] == best
