# SPDX-License-Identifier: BSD-2-Clause
"""What the tools found, as a result file and as a table."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from synth.designs import Design

#: What Yosys and nextpnr append to a signal's name to name a cell that they made of it.
_DERIVED = re.compile(r"(_(TRELLIS_\w+|LUT4|CCU2C|PFUMX|L6MUX21|D[IO][AB]?\d*|D[0-9]|DPRAM_COMB\d)(_|$|\[)|\$).*")
WORST_MODULES = 10


@dataclass(frozen=True)
class Step:
    """A step of a path: where it leads, and in how many nanoseconds: ``kind`` clk-to-q, routing, logic or setup."""

    kind: str
    cell: str
    net: str
    ns: float


@dataclass(frozen=True)
class Result:
    """Figures of one design.

    Attributes
    ----------
    area : cells by resource, the harness included
    harness : flip-flops and LUTs of the harness among them
    fmax_mhz, clock_mhz : frequency reached and wanted; 0 reached: not timed
    seeds : frequency reached with each seed of the placement that was tried; all else is of the fastest
    path : the critical path
    worst : the latest arrival in ns at any register of each module, the worst modules first
    tools : versions
    """

    design: str
    title: str
    chip: str
    clock_mhz: float
    area: Mapping[str, int]
    harness: Mapping[str, int]
    fmax_mhz: float = 0.0
    path: list[Step] = field(default_factory=list)
    worst: Mapping[str, float] = field(default_factory=dict)
    seeds: Mapping[int, float] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)

    @property
    def closes(self) -> bool:
        """The clock wanted was reached."""
        return self.fmax_mhz >= self.clock_mhz


def signal_name(cell: str) -> str:
    """The signal that a cell computes or holds, as far as its name tells."""
    return _DERIVED.sub("", cell).rstrip(".")


def area(chip: str, cells: Mapping[str, int]) -> dict[str, int]:
    """Cells by resource, from Yosys' cells by type."""

    def total(*patterns: str) -> int:
        return sum(n for cell, n in cells.items() if any(re.fullmatch(pattern, cell) for pattern in patterns))

    if chip == "ecp5":
        # A carry cell has two LUTs; a distributed RAM has four, and two more that drive its write port.
        ram = total("TRELLIS_DPR16X4")
        return {
            "lut": total("LUT4") + 2 * total("CCU2C") + 6 * ram,
            "ff": total("TRELLIS_FF"),
            "distributed_ram": ram,
            "block_ram": total("DP16KD"),
            "dsp": total("MULT18X18D"),
        }
    return {
        "lut": total(r"LUT\d", r"INV", r"SRL\w+") + _distributed_luts(cells),
        "ff": total(r"FD[RSCP]E"),
        "distributed_ram": total(r"RAM(32|64|128|256|512)\w+"),
        "block_ram": total(r"RAMB36\w+") + (total(r"RAMB18\w+") + 1) // 2,
        "dsp": total(r"DSP\w+"),
    }


def _distributed_luts(cells: Mapping[str, int]) -> int:
    """LUTs of Xilinx distributed RAMs, by what is written of them in UG574."""
    luts = {"RAM32M": 4, "RAM32M16": 8, "RAM64M": 4, "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4}
    return sum(luts.get(cell, 1) * n for cell, n in cells.items() if re.fullmatch(r"RAM(32|64|128|256|512)\w+", cell))


def critical_path(report: Mapping[str, Any]) -> list[Step]:
    """Steps of the critical path between registers in nextpnr's report; those without delay are left out."""
    paths = [path for path in report["critical_paths"] if "<async>" not in (path["from"], path["to"])]
    if not paths:
        return []
    return [
        Step(step["type"], step["to"]["cell"], step.get("net", ""), round(step["delay"], 3))
        for step in paths[0]["path"]
        if step["delay"] > 0 or step["type"] in ("clk-to-q", "setup")
    ]


def worst_modules(report: Mapping[str, Any], count: int = WORST_MODULES) -> dict[str, float]:
    """The latest arrival in ns at any register of each module, for the ``count`` worst modules."""
    latest: dict[str, float] = {}
    for net in report["detailed_net_timings"]:
        for endpoint in net["endpoints"]:
            module = signal_name(endpoint["cell"]).rpartition(".")[0]
            if module:
                latest[module] = max(latest.get(module, 0.0), round(endpoint["delay"][1], 3))
    return dict(sorted(latest.items(), key=lambda item: (-item[1], item[0]))[:count])


def result_of(
    name: str,
    design: Design,
    cells: Mapping[str, int],
    harness: Mapping[str, int],
    report: Mapping[str, Any] | None,
    tools: Mapping[str, str],
) -> Result:
    """The figures of a design from the tools' reports; ``report`` is nextpnr's, if it was placed."""
    timing: dict[str, Any] = {}
    if report is not None:
        timing = {
            "fmax_mhz": round(min(clock["achieved"] for clock in report["fmax"].values()), 2),
            "path": critical_path(report),
            "worst": worst_modules(report),
        }
    return Result(
        design=name,
        title=design.title,
        chip=design.chip,
        clock_mhz=design.clock_mhz,
        area=area(design.chip, cells),
        harness=harness,
        tools=tools,
        **timing,
    )


def table(results: Iterable[Result]) -> Table:
    """One row a design."""
    rows = Table(title="Synthesis")
    ram = ("distributed RAM", "block RAM")
    for heading in ("design", "chip", "LUT", "FF", *ram, "DSP", "Fmax / MHz", "wanted", "seed"):
        rows.add_column(heading, justify="left" if heading in ("design", "chip") else "right")
    for r in results:
        area_ = [f"{r.area[kind]:,}" for kind in ("lut", "ff", "distributed_ram", "block_ram", "dsp")]
        reached = f"{r.fmax_mhz:.1f}" if r.fmax_mhz else "not timed"
        best = max(r.seeds, key=lambda seed: r.seeds[seed], default="")
        rows.add_row(r.title, r.chip, *area_, reached, f"{r.clock_mhz:.2f}", str(best))
    return rows


@dataclass
class _Passage:
    """Consecutive steps of a path that belong to one signal: when they end, and how long they take, in ns."""

    signal: str
    at: float = 0.0
    logic: float = 0.0
    routing: float = 0.0


def path_table(result: Result) -> Table:
    """The critical path, a row for each signal on the way."""
    rows = Table(title=f"Critical path of {result.title}")
    rows.add_column("at / ns", justify="right")
    rows.add_column("signal")
    rows.add_column("logic / ns", justify="right")
    rows.add_column("routing / ns", justify="right")
    at = 0.0
    signals: list[_Passage] = []
    for step in result.path:
        at += step.ns
        signal = signal_name(step.cell)
        # A cell that nextpnr made itself belongs to the signal before it.
        if not signals or (signal and signals[-1].signal != signal):
            signals.append(_Passage(signal))
        passage = signals[-1]
        passage.at = at
        if step.kind == "routing":
            passage.routing += step.ns
        else:
            passage.logic += step.ns
    for passage in signals:
        rows.add_row(f"{passage.at:.2f}", passage.signal, f"{passage.logic:.2f}", f"{passage.routing:.2f}")
    return rows


def module_table(result: Result) -> Table:
    """The worst modules."""
    rows = Table(title=f"Latest arrivals by module in {result.title}")
    rows.add_column("module")
    rows.add_column("ns", justify="right")
    for module, ns in result.worst.items():
        rows.add_row(module, f"{ns:.2f}")
    return rows
