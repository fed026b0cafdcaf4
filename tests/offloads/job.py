# SPDX-License-Identifier: BSD-2-Clause
"""The comparison as a job for a simulator."""

import time
from collections.abc import Callable
from typing import Any

from sim.backends.base import Backend
from sim.config import MachineConfig
from tests.offloads.compare import Comparison

ROUND = 125  #: frames received, checksum requests, and segments


def job(backend: Backend, design: MachineConfig, argument: Any) -> dict[str, Any]:
    """Compare ``argument["packets"]`` received frames, checksum requests and segments of ``argument["seed"]``, with
    ``argument["stalls"]``, if there are any; for :func:`sim.backends.base.launch`."""
    report: Callable[[str], None] = print if argument.get("progress") else lambda line: None
    packets, seed = argument["packets"], argument["seed"]
    comparison = Comparison(backend, design, f"{seed} of {design.nic.data_width}", argument.get("stalls", 0))
    begin, rounds = time.monotonic(), 0
    try:
        comparison.published_hashes()
        while True:
            left = [packets - done for done in comparison.done]
            if max(left) <= 0:
                break
            comparison.random_round(*(max(0, min(ROUND, each)) for each in left))
            rounds += 1
            if rounds % 10 == 0:
                report(f"{comparison.done} after {backend.cycle} cycles in {time.monotonic() - begin:.0f} s")
    except AssertionError as difference:
        raise AssertionError(f"seed {seed}, round {rounds}, cycle {backend.cycle}: {difference}") from difference
    received, checksums, segments = comparison.done
    return {
        "received": received,
        "checksums": checksums,
        "segments": segments,
        "cycles": backend.cycle,
        "starts": comparison.starts,
        "covered": [[*key, count] for key, count in sorted(comparison.covered.items())],
    }
