# SPDX-License-Identifier: BSD-2-Clause
"""Where a packet's cycles go: how long each part of the machine was busy with one, from what a run counted.

The part that is busy all the time is the one that limits. :mod:`sim.experiments.ceiling` has the same parts at their
best, from arithmetic; here they carry what really came: completions in groups as they were, doorbells, interrupts.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sim.config import MachineConfig
from sim.host.link import INTERRUPT_BYTES, REGISTER_BYTES
from sim.measurement import Measurement
from sim.report import Column, Row, decimals
from sim.run import RunConfig
from sim.traffic.pacing import OVERHEAD_BYTES

STAGES: Mapping[str, str] = {
    "wire_rx": "wire in",
    "wire_tx": "wire out",
    "axi_w": "W beats",
    "axi_r": "R beats",
    "dram": "DRAM",
    "link_up": "link up",
    "link_down": "link down",
    "cpu": "CPU",
}  #: name of each part, and its heading in a table
REGISTER_WRITES = ("mmio.write", "recycle.return")  #: operations that are one each
COLUMNS = (
    Column("hardware_cycles", "cycles/packet", decimals(2)),
    *(Column(f"stage.{name}", heading, decimals(2)) for name, heading in STAGES.items()),
    Column("busiest", "busiest"),
    Column("busiest_share", "busy %", decimals(1)),
)  #: of a table of all stages


def stages(machine: MachineConfig, run: RunConfig, measured: Measurement) -> dict[str, Fraction]:
    """Hardware cycles in which each part was busy, for each delivered packet.

    ``wire_rx`` and ``wire_tx`` carry frames with preamble, FCS and gap, dropped frames too. ``axi_w`` and ``axi_r`` are
    beats of the NIC's data channels. ``dram`` and ``link_up``, ``link_down`` are bytes, on the link with overhead, over
    the bytes of a cycle. ``cpu`` is the mean of the cores that have a queue.

    Accesses to memory are those of the log: absent without one are ``axi_w``, ``axi_r``, ``dram`` and the link, which
    is absent on chip, too. Bursts that lie side by side and follow each other without a cycle between them count as
    one, and one that was under way when the log was taken counts as two: on the link, that is a header more or less.
    What little register reads and refused writes put there is left out.
    """
    counters, operations, delivered = measured.statistics, measured.operations, measured.delivered
    busy: dict[str, Fraction] = {}
    for name in ("rx", "tx"):
        size = counters[f"{name}_bytes"] + counters[f"{name}_frames"] * OVERHEAD_BYTES
        busy[f"wire_{name}"] = size / machine.mac_bytes_per_cycle
    if measured.accesses:
        beat = machine.nic.beat_bytes
        link, clock_khz = machine.link, machine.nic.clock_khz
        beats = {True: 0, False: 0}
        size = up = down = 0
        for (is_write, offset, length), count in measured.accesses.items():
            beats[is_write] += count * -(-(offset % beat + length) // beat)
            size += count * length
            if is_write:
                up += count * link.write_bytes(length)
            else:
                up += count * link.read_bytes(length)
                down += count * link.completion_bytes(length, offset)
        busy |= {"axi_w": Fraction(beats[True]), "axi_r": Fraction(beats[False])}
        busy["dram"] = size / machine.dram.bytes_per_cycle(clock_khz)
        if not link.wires:
            interrupts, *registers = (operations.get(name, (0, 0))[0] for name in ("irq.entry", *REGISTER_WRITES))
            up += interrupts * (INTERRUPT_BYTES + link.request_overhead)
            down += sum(registers) * (REGISTER_BYTES + link.request_overhead)
            busy["link_up"] = up / link.bytes_per_cycle(clock_khz)
            busy["link_down"] = down / link.bytes_per_cycle(clock_khz)
    spent = sum(picoseconds for _, picoseconds in operations.values())
    busy["cpu"] = Fraction(spent, machine.cycle_ps * min(run.cores, run.queues))
    return {name: cycles / delivered for name, cycles in busy.items()}


def account_rows(case: Mapping[str, Any], machine: MachineConfig, run: RunConfig, measured: Measurement) -> list[Row]:
    """Rows ``stage.NAME``, and ``busiest`` with ``busiest_share``: the part that is busy longest, and its share of the
    run's cycles. It limits if that is all of them. Cores can have more: a run's cycles are from when
    software has the first frame to the last delivery, and their work counts whole, with the interrupt before and the
    refill after."""
    found = stages(machine, run, measured)
    busiest = max(found, key=lambda name: found[name])
    return [
        *(Row(case, f"stage.{name}", "cycles/packet", busy) for name, busy in found.items()),
        Row(case, "busiest", "part", STAGES[busiest]),
        Row(case, "busiest_share", "%", 100 * found[busiest] / measured.cycles_per_packet),
    ]
