# SPDX-License-Identifier: BSD-2-Clause
"""Flip-flops move into block RAM where they are what is in it already, and stay where they are not."""

from typing import Any

import pytest

from synth.output_registers import use_output_registers

CLOCK, ENABLE = 2, 3


def flip_flop(data: int, output: int, **changes: Any) -> dict[str, Any]:
    connections = {"CLK": [CLOCK], "CE": [ENABLE], "LSR": ["0"], "DI": [data], "Q": [output]}
    parameters = {"CEMUX": "CE", "CLKMUX": "CLK", "REGSET": "RESET"}
    for name, value in changes.items():
        (connections if name in connections else parameters)[name] = value
    directions = {port: "output" if port == "Q" else "input" for port in connections}
    return {
        "type": "TRELLIS_FF",
        "parameters": parameters,
        "port_directions": directions,
        "connections": connections,
    }


def netlist(*, width: int = 4, **cells: dict[str, Any]) -> dict[str, Any]:
    """A block RAM whose port B reads two bits, nets 10 and 11."""
    connections = {"CLKA": [CLOCK], "CLKB": [CLOCK], "OCEA": ["0"], "OCEB": ["1"]}
    connections |= {"DOA0": [12], "DOB0": [10], "DOB1": [11]}
    ram = {
        "type": "DP16KD",
        "parameters": {f"DATA_WIDTH_{port}": f"{width:032b}" for port in "AB"}
        | {f"REGMODE_{port}": "NOREG" for port in "AB"},
        "port_directions": {port: "output" if port.startswith("DO") else "input" for port in connections},
        "connections": connections,
    }
    ports = {"out": {"direction": "output", "bits": [20, 21]}}
    return {"modules": {"top": {"attributes": {"top": "1"}, "ports": ports, "cells": {"ram": ram, **cells}}}}


def test_the_reading_ports_flip_flops_move_with_their_enable():
    design = netlist(low=flip_flop(10, 20), high=flip_flop(11, 21))
    assert use_output_registers(design) == 2
    cells = design["modules"]["top"]["cells"]
    assert list(cells) == ["ram"]
    ram = cells["ram"]
    assert ram["parameters"]["REGMODE_A"] == "NOREG"
    assert ram["parameters"]["REGMODE_B"] == "OUTREG"
    assert [ram["connections"][port] for port in ("DOB0", "DOB1", "OCEA", "OCEB")] == [[20], [21], ["0"], [ENABLE]]


def test_at_full_width_both_ports_are_one():
    design = netlist(width=36, low=flip_flop(10, 20), high=flip_flop(11, 21), more=flip_flop(12, 22))
    assert use_output_registers(design) == 3
    ram = design["modules"]["top"]["cells"]["ram"]
    assert [ram["parameters"][f"REGMODE_{port}"] for port in "AB"] == ["OUTREG"] * 2
    assert [ram["connections"][f"OCE{port}"] for port in "AB"] == [[ENABLE]] * 2


def test_flip_flops_that_always_take_keep_the_register_enabled():
    design = netlist(low=flip_flop(10, 20, CEMUX="1"), high=flip_flop(11, 21, CEMUX="1"))
    assert use_output_registers(design) == 2
    assert design["modules"]["top"]["cells"]["ram"]["connections"]["OCEB"] == ["1"]


@pytest.mark.parametrize(
    "changes",
    [{"LSR": [4]}, {"REGSET": "SET"}, {"CLK": [5]}, {"CE": [6]}, {"CEMUX": "1"}, {"CLKMUX": "INV"}],
    ids=lambda changes: next(iter(changes)),
)
def test_flip_flops_that_differ_stay(changes):
    design = netlist(low=flip_flop(10, 20), high=flip_flop(11, 21, **changes))
    assert use_output_registers(design) == 0
    assert design == netlist(low=flip_flop(10, 20), high=flip_flop(11, 21, **changes))


def test_a_bit_that_goes_elsewhere_as_well_keeps_all_outside():
    design = netlist(low=flip_flop(10, 20), high=flip_flop(11, 21), other=flip_flop(30, 31, CE=[11]))
    assert use_output_registers(design) == 0
    design = netlist(low=flip_flop(10, 22))
    design["modules"]["top"]["ports"]["out"]["bits"] = [11]
    assert use_output_registers(design) == 0
