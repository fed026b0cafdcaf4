# SPDX-License-Identifier: BSD-2-Clause
"""Random worlds reach everything, are the same for the same seed, and have one right answer."""

import random

import pytest

from tests.golden.coverage import Coverage
from tests.golden.generate import generate
from tests.golden.model import Capabilities, Iommu

SMALL = Capabilities(sv48=False, sv48x4=False, amo_hwad=False, ats=False, physical_bits=40)
ACCESS_FAULTS, PAGE_FAULTS, GUEST_PAGE_FAULTS = {1, 5, 7}, {12, 13, 15}, {20, 21, 23}
BEFORE_CONTEXT = {256, 257, 258, 259, 260}


def results(world, order=None):
    """Results of the world's requests, each in its place, taken in the order given."""
    iommu = Iommu(world.memory, world.mode, world.root, world.capabilities)
    found = {place: iommu.translate(world.requests[place]) for place in order or range(len(world.requests))}
    return [found[place] for place in range(len(world.requests))]


@pytest.mark.parametrize("capabilities", [Capabilities(), SMALL], ids=["all", "small"])
def test_every_mode_and_cause_is_reached(capabilities):
    coverage = Coverage()
    for seed in range(150):
        for result in results(generate(seed, capabilities, requests=100, execute=True)):
            coverage.add(result)
    print(coverage.table())
    reached = {(first, second): set() for first, second, _ in coverage.counts}
    for first, second, cause in coverage.counts:
        reached[first, second].add(cause)
    modes = (0, 8, 9) if capabilities.sv48 else (0, 8)
    assert set(reached) == {(first, second) for first in modes for second in modes} | {(None, None)}
    for (first, second), causes in reached.items():
        expected = {None, 260} | ACCESS_FAULTS
        expected |= BEFORE_CONTEXT if first is None else set()
        expected |= PAGE_FAULTS if first else set()
        expected |= GUEST_PAGE_FAULTS if second else set()
        assert causes == expected, f"first {first}, second {second}"
    assert coverage.share() > 0.25


@pytest.mark.parametrize("seed", range(40))
def test_order_does_not_matter_unless_said(seed):
    first = generate(seed, requests=100)
    if first.ordered:
        return
    second = generate(seed, requests=100)
    order = list(range(100))
    random.Random(seed).shuffle(order)
    for one, other in zip(results(first), results(second, order), strict=True):
        assert (one.address, one.record, one.reported) == (other.address, other.record, other.reported)
    assert first.memory.data == second.memory.data


def test_a_seed_is_a_world():
    one, other = generate(5, requests=20), generate(5, requests=20)
    assert (one.memory.data, one.requests) == (other.memory.data, other.requests)
    assert one.memory.data != generate(6, requests=20).memory.data


def test_marks_are_made():
    updates = sum(len(result.updates) for seed in range(20) for result in results(generate(seed, requests=100)))
    assert updates > 50
