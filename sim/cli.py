# SPDX-License-Identifier: BSD-2-Clause
"""The command line: ``pagewheel``."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from driver_model.cpu.profile import Profile
from driver_model.drivers.device import DeviceError
from driver_model.memory.dma.ownership import OwnershipError
from driver_model.net.collector import CollectorError
from hw.config import CORES, IOMMU_PRESETS, core_preset
from hw.export.verilog import export
from sim.account import COLUMNS
from sim.backends.base import BACKENDS, JobError
from sim.backends.build import BuildError, fst_available
from sim.bench import bench_rows
from sim.config import PRESETS, SERIAL_BITS
from sim.config import preset as machine_preset
from sim.experiments.compare import broken, print_checks, print_comparison
from sim.experiments.registry import EXPERIMENTS, experiment
from sim.experiments.runner import measure, plan, run_experiment
from sim.experiments.settings import changed, split
from sim.host.mailbox import MailboxError
from sim.line_rate.frames import FrameError
from sim.parameters import allowed, parameters
from sim.picture import check_picture, draw_picture
from sim.report import Column, Result, decimals, print_table, widen
from sim.run import IOMMU_MODES
from sim.scenario import RunError
from sim.trace.gtkw import write_save_file
from sim.trace.job import trace_run
from sim.trace.table import print_timeline

TIMELINE_FILE = Path("build/timeline.json")
USAGE = 2  #: exit code for what the user can put right
FAILURE = 1
INTERRUPTED = 130  #: 128 and the number of SIGINT, as shells have it
#: Their messages say all; a traceback adds nothing.
FAILED_RUN = (RunError, DeviceError, OwnershipError, CollectorError, FrameError, MailboxError)

app = typer.Typer(
    help="A cycle-accurate NIC and IOMMU, driven by a model of Linux's packet-memory path.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
messages = Console(stderr=True, soft_wrap=True, highlight=False)

PresetOption = Annotated[str, typer.Option("--preset", help="Machine.", metavar="|".join(PRESETS))]
IommuOption = Annotated[str, typer.Option("--iommu", help="IOMMU mode.", metavar="|".join(IOMMU_MODES))]
BackendOption = Annotated[str, typer.Option("--backend", help="Simulator.", metavar="|".join(BACKENDS))]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter; may be repeated.", metavar="KEY=VALUE")
]
PcapOption = Annotated[Path | None, typer.Option("--pcap", help="Capture to play (pcap or pcapng).", metavar="FILE")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write the result as JSON.", metavar="FILE")]


@contextmanager
def _explained() -> Iterator[None]:
    """Turn refusals into one line and exit code 2, failed runs into exit code 1, and Ctrl-C into 130."""
    try:
        yield
    except KeyboardInterrupt:
        messages.print("pagewheel: interrupted; nothing is written")
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, TypeError) as error:
        messages.print(f"pagewheel: {error}", markup=False)
        raise typer.Exit(USAGE) from None
    except (BuildError, OSError, *FAILED_RUN) as error:
        messages.print(f"pagewheel: {error}", markup=False)
        raise typer.Exit(FAILURE) from None
    except JobError as error:
        known = error.kind in {f"{kind.__module__}.{kind.__qualname__}" for kind in FAILED_RUN}
        messages.print(f"pagewheel: {error.reason if known else error}", markup=False)
        raise typer.Exit(FAILURE) from None


@app.command("list")
def list_parameters(
    part: Annotated[str | None, typer.Argument(help="nic, link, …: a part of the machine.", metavar="[PART]")] = None,
    preset: PresetOption = "10g",
) -> None:
    """Show experiments and their parameters; or those of a PART of the machine, an IOMMU beside it."""
    with _explained():
        machine = machine_preset(preset)
        whole = replace(machine, iommu=IOMMU_PRESETS[preset])
        known = list(parameters(whole))
        parts = list(dict.fromkeys(parameter.name.split(".")[0] for parameter in known))
        if part is not None and part not in parts:
            raise ValueError(f"The machine's parts and parameters are {', '.join(parts)}, not {part!r}")
        if part is not None:
            mine = [parameter for parameter in known if parameter.name.split(".")[0] == part]
            rows = [(each.name, _shown(each.value), allowed(whole, each.name), each.meaning) for each in mine]
            _list(f"{part}, of preset {preset}", ("parameter", "value", "allowed", "meaning"), rows)
            return
    for entry in EXPERIMENTS.values():
        settings = [(name, _shown(setting.default), setting.help) for name, setting in entry.settings.items()]
        _list(f"{entry.name}: {entry.question}", ("parameter", "default", "meaning"), settings)
    console.print(
        f"All take the machine's parameters too: those of a part as --set nic.queues=4, and `pagewheel list nic` shows "
        f"them. The parts are {', '.join(parts)}.",
        markup=False,
    )


def _shown(value: Any) -> str:
    """As ``--set`` takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "+".join(value) if isinstance(value, tuple) else str(value)


def _list(title: str, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Experiment, as `pagewheel list` shows.")],
    preset: PresetOption = "10g",
    backend: BackendOption = "verilator",
    assignments: SetOption = None,
    pcap: PcapOption = None,
    waves: Annotated[bool, typer.Option("--waves", help="A short run with waves, in build/waves.")] = False,
    sent: Annotated[
        Path | None, typer.Option("--sent", help="Capture for what one run sends (pcap or pcapng).", metavar="FILE")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw the result (png, svg or pdf).", metavar="FILE")
    ] = None,
    out: OutOption = None,
) -> None:
    """Run an experiment and print its table."""
    with _explained():
        chosen = experiment(name)
        given = split(assignments or ())
        _check_file("--out", out)
        _check_file("--sent", sent)
        _check_file("--picture", picture)
        if picture is not None:
            check_picture(picture)
            if chosen.picture is None:
                raise ValueError(f"Experiment {name} has no picture")
        file = None
        if waves:
            given = {**chosen.short, "nic.serial_width": str(SERIAL_BITS), **given}
            file = _waves_file(name, backend)
        result = run_experiment(chosen, given, preset_name=preset, backend=backend, capture=pcap, waves=file, sent=sent)
        print_table(console, result, chosen.columns, chosen.question)
        print_comparison(console, result.rows, chosen.explanations)
        print_checks(console, result.rows)
        for remark in chosen.remarks:
            console.print(remark, highlight=False)
        if out is not None:
            result.write(out)
            messages.print(f"Result: {out}", markup=False)
        if picture is not None and chosen.picture is not None:
            draw_picture(chosen.picture, result.rows, chosen.question, picture)
            messages.print(f"Picture: {picture}", markup=False)
        if sent is not None:
            messages.print(f"Sent: {sent}", markup=False)
        if file is not None:
            save = write_save_file(file)
            messages.print(f"Waves: {file}; look at them with: gtkwave {save}", markup=False)
        for row in broken(result.rows):
            case = ", ".join(f"{key} {value}" for key, value in row.case.items())
            messages.print(f"pagewheel: check {row.name} does not hold for {case}", markup=False)
        if broken(result.rows):
            raise typer.Exit(FAILURE)


def _check_file(option: str, path: Path | None) -> None:
    """Raise ``ValueError`` for a file that cannot be written, before anything is run for it; makes its folder."""
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{option} must name a file, not the folder {str(path)!r}")
    path = path.resolve()  # of a link that leads nowhere yet, its target is made
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise ValueError(f"{option} must name a file that can be made, not {str(path)!r}: {error.strerror}") from None


def _check_folder(option: str, path: Path) -> None:
    """The same for a folder, which is made."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{option} must name a folder, not the file {str(path)!r}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{option} must name a folder that can be made, not {str(path)!r}: {error.strerror}") from None


def _waves_file(name: str, backend: str) -> Path:
    """FST is hundreds of times smaller than VCD, but only Verilator writes it, and only with lz4's headers."""
    fst = backend == "verilator" and fst_available()
    if backend == "verilator" and not fst:
        messages.print("Waves go to a VCD file; with the headers of lz4 (Debian: liblz4-dev) to a far smaller FST file")
    file = Path("build/waves") / f"{name}.{'fst' if fst else 'vcd'}"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


@app.command()
def bench(preset: PresetOption = "10g", out: OutOption = None) -> None:
    """Measure how fast the simulation runs: cycles and packets per wall second."""
    with _explained():
        _check_file("--out", out)
        result = Result("bench", {"preset": preset}, seed=1, rows=bench_rows(preset))
        columns = (
            Column("cycles_per_second", "cycles/s", decimals(0)),
            Column("packets_per_second", "packets/s", decimals(0)),
        )
        print_table(console, result, columns, "How fast does it simulate?")
        print_table(console, result, COLUMNS, "For how many cycles of a packet is each part busy?")
        if out is not None:
            result.write(out)


@app.command()
def stats(
    strategy: Annotated[str, typer.Option(help="Buffer strategy.")] = "page_pool",
    verdict: Annotated[str, typer.Option(help="XDP verdict.")] = "drop",
    traffic: Annotated[str, typer.Option(help="Frame size, mix, or capture.")] = "imix",
    iommu: IommuOption = "none",
    preset: PresetOption = "10g",
    backend: BackendOption = "verilator",
    assignments: SetOption = None,
    pcap: PcapOption = None,
) -> None:
    """Print all counters of each run, under the names that ethtool and page_pool give them."""
    with _explained():
        given = {"strategies": strategy, "verdicts": verdict, "traffic": traffic, "iommu": iommu}
        given |= split(assignments or ())
        found = measure(experiment("strategies"), given, preset_name=preset, backend=backend, capture=pcap).cases
        for case, measured in found:
            if len(found) > 1:
                print(f"# {', '.join(f'{key} {value}' for key, value in case.varied.items())}")
            for counter, value in measured.statistics.items():
                print(f"{counter}: {value}")


@app.command()
def timeline(
    strategy: Annotated[str, typer.Option(help="Buffer strategy.")] = "page_pool",
    verdict: Annotated[str, typer.Option(help="XDP verdict.")] = "tx",
    traffic: Annotated[str, typer.Option(help="Frame size, mix, or capture.")] = "imix",
    iommu: IommuOption = "none",
    packets: Annotated[int, typer.Option(help="How many packets to print.", min=1)] = 3,
    preset: PresetOption = "10g",
    backend: BackendOption = "verilator",
    assignments: SetOption = None,
    pcap: PcapOption = None,
    out: Annotated[Path, typer.Option("--out", help="Trace for Perfetto.", metavar="FILE")] = TIMELINE_FILE,
) -> None:
    """Follow packets from the wire to their buffer's return; also as a file for https://ui.perfetto.dev."""
    with _explained():
        chosen = experiment("strategies")
        given = {**chosen.short, "strategies": strategy, "verdicts": verdict, "traffic": traffic, "iommu": iommu}
        given |= split(assignments or ())
        planned = plan(chosen, given, preset_name=preset, capture=pcap)
        if len(planned.cases) != 1:
            raise ValueError(
                f"A timeline is of one strategy, verdict, traffic and IOMMU mode, not of {len(planned.cases)} cases"
            )
        _check_file("--out", out)
        (case,) = planned.cases
        traced = trace_run(planned.machine_of(case), case.run, backend)
        print_timeline(console, traced.packets, traced.functions, planned.machine.cycle_ps, packets)
        out.write_text(json.dumps(traced.chrome) + "\n")
        messages.print(f"{len(traced.packets)} packets: {out}, for https://ui.perfetto.dev", markup=False)


@app.command()
def verilog(
    folder: Annotated[Path, typer.Option("-o", help="Folder for the files.", metavar="DIR")],
    core: Annotated[str, typer.Option("--core", help="What to export.", metavar="|".join(CORES))] = "nic",
    preset: PresetOption = "10g",
    assignments: SetOption = None,
) -> None:
    """Export the NIC or the IOMMU as Verilog with AXI ports."""
    with _explained():
        config = core_preset(core, preset)
        for key, text in split(assignments or ()).items():
            part, _, name = key.partition(".")
            if part != core:
                raise ValueError(f"A parameter of core {core} is set as {core}.NAME=VALUE, not {key!r}")
            config = changed(config, name, text, core)
        _check_folder("-o", folder)
        for path in export(config, folder):
            print(path)


@app.command()
def costs(
    profile: Annotated[str, typer.Option(help="Machine.", metavar="|".join(Profile.names()))] = "e5-1650v4",
) -> None:
    """Show what each operation costs, whether that is solved, assumed or borrowed, and where it comes from."""
    with _explained():
        loaded = Profile.load(profile)
        clock = f"{loaded.khz / 1e6:.2f} GHz" + ("" if loaded.coherent else ", devices not coherent")
        table = Table(title=f"{loaded.name}: {loaded.machine}, {clock}", title_justify="left", header_style="bold")
        table.add_column("operation", no_wrap=True)
        table.add_column("cycles", justify="right")
        table.add_column("ns", justify="right")
        table.add_column("how")
        table.add_column("from")
        borrowed: dict[tuple[str, str], None] = {}
        for name, cost in sorted(loaded.costs.items()):
            total = cost.ps(loaded.khz)
            how = "assumed" if cost.assumed else "solved"
            if cost.lender:
                how += f" on {cost.lender}"
                borrowed[cost.lender, cost.why] = None
            source = "" if cost.assumed else f" ({cost.source})"
            numbers = f"{float(total * loaded.khz / 10**9):.1f}", f"{float(total / 1000):.1f}"
            table.add_row(name, *numbers, how, escape(cost.basis + source))
        widen(console, table)
        console.print(table)
        for lender, why in borrowed:
            console.print(f"Borrowed from {lender}: {why}.", markup=False, highlight=False)


def main() -> None:
    """Entry point of the command ``pagewheel``."""
    app()


if __name__ == "__main__":
    main()
