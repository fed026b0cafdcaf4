# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU and its golden model agree on random translations; ``make golden`` makes more of them."""

import pytest

from sim.backends.base import JobError, launch
from tests.golden.compare import Comparison
from tests.golden.configurations import CONFIGURATIONS
from tests.golden.machine import GoldenDesign
from tests.golden.tables import PAGE

DESIGN = GoldenDesign(CONFIGURATIONS["crowded"])  # where the most happens in the fewest cycles
CAUSES = [1, 5, 7, 12, 13, 15, 20, 21, 23, 256, 257, 258, 259, 260]


def spoiled(backend, design, argument):
    """A world in whose memory the hardware finds no device, or nothing, where the model found something."""
    comparison = Comparison(backend, design, requests=50)
    place = comparison.hardware.set_directory

    def spoil(mode, ppn):
        comparison.hardware.tables[ppn * PAGE : (ppn + 1) * PAGE] = 0
        place(mode, ppn)

    comparison.hardware.set_directory = spoil
    comparison.world(argument)


def test_random_translations_agree():
    result = launch("verilator", DESIGN, "tests.golden.compare:job", {"seeds": [0, 40], "requests": 50})
    print(result["coverage"])
    assert result["translations"] == 4000
    assert result["causes"] == CAUSES


def test_a_difference_is_found():
    with pytest.raises(JobError, match="seed 2, cold: ") as error:
        launch("verilator", DESIGN, "tests.hw.iommu.test_golden:spoiled", 2)
    assert error.value.kind.endswith("AssertionError")
