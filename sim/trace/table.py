# SPDX-License-Identifier: BSD-2-Clause
"""Packets' lives and the time of functions as tables."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from sim.trace.timeline import STEPS, FunctionTime, Packet

NANOSECOND = 1000  #: in picoseconds


def packet_table(packets: Sequence[Packet], cycle_ps: int) -> Table:
    """Steps downwards, packets across: the cycle of each step, and nanoseconds since the packet's step before it.

    Software acts between edges, so its cycles have a fraction.
    """
    table = Table(title="When each step happened: cycle, and ns since the step before", title_justify="left")
    table.add_column("step")
    for packet in packets:
        where = "no queue" if packet.queue is None else f"queue {packet.queue}"
        table.add_column(f"packet {packet.serial}\n{where}\n{packet.fate}", justify="right", no_wrap=True)
    columns = [_cells(packet, cycle_ps) for packet in packets]
    for name in STEPS:
        if any(name in cells for cells in columns):
            table.add_row(name, *(cells.get(name, "") for cells in columns))
    table.add_section()
    table.add_row("in all", *(f"{_life(packet) / NANOSECOND:.1f} ns" for packet in packets))
    return table


def _cells(packet: Packet, cycle_ps: int) -> dict[str, str]:
    cells = {}
    before = None
    for name, time in packet.times().items():
        since = 0 if before is None else time - before
        cells[name] = f"{time / cycle_ps:.1f} {since / NANOSECOND:+9.1f}"
        before = time
    return cells


def _life(packet: Packet) -> int:
    times = packet.times().values()
    return max(times) - min(times)


def function_table(functions: Mapping[str, FunctionTime], packets: int) -> Table:
    """Where the cores' time went, the dearest first."""
    table = Table(title="What the cores spent while there were packets", title_justify="left")
    table.add_column("function")
    for heading in ("times", "us", "ns/packet", "share %"):
        table.add_column(heading, justify="right")
    total = sum(time.picoseconds for time in functions.values())
    for name, (intervals, picoseconds) in functions.items():
        share = 100 * picoseconds / total if total else 0.0
        table.add_row(
            name,
            str(intervals),
            f"{picoseconds / NANOSECOND**2:.2f}",
            f"{picoseconds / NANOSECOND / packets:.1f}",
            f"{share:.1f}",
        )
    return table


def print_timeline(
    console: Console, packets: Sequence[Packet], functions: Mapping[str, FunctionTime], cycle_ps: int, shown: int
) -> None:
    """Print the first ``shown`` packets, and all functions."""
    console.print(packet_table(packets[:shown], cycle_ps))
    console.print(function_table(functions, len(packets)))
