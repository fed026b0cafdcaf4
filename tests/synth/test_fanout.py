# SPDX-License-Identifier: BSD-2-Clause
"""Registers with many loads are copied, each copy for its part."""

from synth.fanout import copy_registers


def netlist(loads):
    """A flip-flop that enables others."""
    register = {
        "type": "TRELLIS_FF",
        "port_directions": {"D": "input", "Q": "output"},
        "connections": {"D": ["0"], "Q": [2]},
    }
    others = {
        f"load_{number:03}": {
            "type": "TRELLIS_FF",
            "port_directions": {"CE": "input", "Q": "output"},
            "connections": {"CE": [2], "Q": [3 + number]},
        }
        for number in range(loads)
    }
    return {"modules": {"top": {"attributes": {"top": "1"}, "cells": {"driver": register, **others}, "netnames": {}}}}


def test_no_copy_drives_more_than_it_may_and_each_load_has_one():
    design = netlist(25)
    assert copy_registers(design, most=10) == 2
    cells = design["modules"]["top"]["cells"]
    driven = [cells[name]["connections"]["Q"][0] for name in ("driver", "driver$copy1", "driver$copy2")]
    assert len(set(driven)) == 3
    assert all(cells[name]["connections"]["D"] == ["0"] for name in ("driver", "driver$copy1", "driver$copy2"))
    enables = [cells[f"load_{number:03}"]["connections"]["CE"][0] for number in range(25)]
    assert enables == [driven[0]] * 10 + [driven[1]] * 10 + [driven[2]] * 5
    outputs = [cell["connections"]["Q"][0] for cell in cells.values()]
    assert len(set(outputs)) == len(outputs)


def test_a_register_with_few_loads_stays_alone():
    design = netlist(10)
    assert copy_registers(design, most=10) == 0
    assert len(design["modules"]["top"]["cells"]) == 11
