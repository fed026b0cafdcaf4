# SPDX-License-Identifier: BSD-2-Clause
"""Sixteen queues that send: those with frames waiting have equal shares, those with few get all they ask for, and one
that cannot go on delays no other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.backends.base import Backend, launch
from sim.config import MachineConfig
from sim.experiments.line_rate import LineRateExperiment
from sim.line_rate.job import LineRateRun
from sim.line_rate.run import LineRun

QUEUES = 16
PERIOD = 215  #: cycles of 128 frames of 64 bytes at line rate
PERIODS = 256
WARM = 64
LIGHT = range(8)  #: queues that ask for half of a fair share
REFILL = 64  #: periods in which a light queue asks for a ring of 256 frames


class Shares(LineRateRun):
    """Counts what each queue sent."""

    stuck: int | None = None  #: a queue whose completions are never taken

    def count(self, light: range) -> list[int]:
        """Frames of each queue after a warm-up."""
        self._set_up(receives=False, sends=True)
        start = self._next
        for period in range(WARM + PERIODS):
            if period == WARM:
                start = self._next.copy()
            until = self._backend.cycle + PERIOD
            while self._backend.cycle < until:
                self._backend.advance(until)
                self._backend.hits()
            for queue, sender in enumerate(self._senders):
                if queue != self.stuck:
                    sender.poll(more=queue not in light or period % REFILL == 0)
            self._record()
        return ((self._next - start) // QUEUES).tolist()


def unequal(backend: Backend, machine: MachineConfig, stuck: int | None) -> list[int]:
    """Shares where half of the queues have little to send."""
    run = Shares(backend, machine, LineRun(direction="tx", queues=QUEUES, ring=256))
    run.stuck = stuck
    return run.count(LIGHT)


def machine() -> Any:
    """That of experiment ``line_rate``, without an IOMMU."""
    return replace(LineRateExperiment().machine("100g"), iommu=None)


def test_shares_are_fair_and_small_ones_are_whole() -> None:
    sent = np.array(launch("verilator", machine(), f"{__name__}:unequal"))
    light, heavy = sent[list(LIGHT)], sent[len(LIGHT) :]
    assert sent.sum() == pytest.approx(128 * PERIODS, rel=0.01)  # line rate
    assert (light >= 256 * PERIODS // REFILL).all()
    fair = (128 * PERIODS - light.sum()) / len(heavy)
    assert np.abs(heavy / fair - 1).max() < 0.05, f"{heavy} of {fair}"


def test_a_queue_that_cannot_go_on_delays_no_other() -> None:
    """Nobody takes its completions, so its ring is full and stays so."""
    stuck = QUEUES - 1
    sent = np.array(launch("verilator", machine(), f"{__name__}:unequal", stuck))
    assert sent[stuck] == 0
    light, heavy = sent[list(LIGHT)], sent[len(LIGHT) : stuck]
    assert (light >= 256 * PERIODS // REFILL).all()
    fair = (128 * PERIODS - light.sum()) / len(heavy)
    assert np.abs(heavy / fair - 1).max() < 0.05, f"{heavy} of {fair}"
