# SPDX-License-Identifier: BSD-2-Clause
"""Presets of the machine follow those of the NIC."""

from dataclasses import replace

import pytest

from hw.config import PRESETS as NIC_PRESETS
from sim.config import PRESETS, preset


@pytest.mark.parametrize("name", ["10g", "100g"])
@pytest.mark.parametrize("more", ["offload", "recycle"])
def test_a_machine_with_offloads_or_pools_differs_in_its_nic_alone(name, more):
    machine = preset(f"{name}-{more}")
    assert machine.nic == NIC_PRESETS[f"{name}-{more}"]
    assert replace(machine, nic=NIC_PRESETS[name]) == PRESETS[name]


def test_every_preset_of_the_nic_has_a_machine():
    assert set(PRESETS) == set(NIC_PRESETS)
