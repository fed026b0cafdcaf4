# SPDX-License-Identifier: BSD-2-Clause
"""Rows from a run's account of streams: each stream, what limits, transactions and link bytes of a packet."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sim.config import MachineConfig
from sim.host.stream_account import StreamCount
from sim.report import Column, Row, decimals
from sim.streams import AMOUNTS, bottleneck, stages, stream_ends

COLUMNS = (
    Column("rx_limit", "RX limit", optional=True),
    Column("tx_limit", "TX limit", optional=True),
    Column("rx_descriptor_reads", "RX desc. reads", decimals(3), optional=True),
    Column("rx_completion_writes", "RX compl. writes", decimals(3), optional=True),
    Column("up_bytes", "B up", decimals(1), optional=True),
    Column("down_bytes", "B down", decimals(1), optional=True),
)
#: Transactions of a packet of each direction, by the stream whose transfers they are. A line of completions is always
#: one AXI burst; data may be more bursts than commands, which the rows of the AXI channels show.
TRANSACTIONS: Mapping[str, Mapping[str, str]] = {
    "rx": {
        "rx_descriptor_reads": "axi_ar_rx_descriptors",
        "rx_data_writes": "rx_writes",
        "rx_completion_writes": "rx_lines",
    },
    "tx": {
        "tx_descriptor_reads": "axi_ar_tx_descriptors",
        "tx_data_reads": "axi_ar_tx_data",
        "tx_completion_writes": "tx_lines",
    },
}
CHANNELS = ("axi_aw", "axi_w", "axi_b", "axi_ar", "axi_r")


def stream_rows(
    case: Mapping[str, Any], machine: MachineConfig, counts: Mapping[str, StreamCount], rates: Mapping[str, Fraction]
) -> list[Row]:
    """Rows of a run.

    ``stream.NAME.busy``, ``.stalled``, ``.starved`` : per cent of the run's cycles
    ``stage.rx.NAME``, ``stage.tx.NAME`` : per cent in which that part worked; of a part passed twice, where it was more
    ``rx_limit``, ``tx_limit`` : the part that limits
    ``axi.CHANNEL``, and by client :data:`TRANSACTIONS` : transfers for each packet (of one direction, if both have any)
    ``up_bytes``, ``down_bytes`` : on the host link for each packet; absent where it is wires
    ``up_share``, ``down_share`` : per cent of its rate

    Parameters
    ----------
    rates : packets a cycle of each direction, ``rx`` and ``tx``, that has any
    """
    rows = []
    for name in stream_ends(machine):
        count = counts[name]
        for kind, cycles in (("busy", count.moved), ("stalled", count.stalled), ("starved", count.starved)):
            rows.append(Row(case, f"stream.{name}.{kind}", "%", count.share(cycles)))
    for direction, rate in rates.items():
        found = stages(direction, machine, counts)
        working: dict[str, float] = {}
        for stage in found:
            working[stage.name] = max(stage.working, working.get(stage.name, 0.0))
        rows += [Row(case, f"stage.{direction}.{name}", "%", share) for name, share in working.items()]
        rows.append(Row(case, f"{direction}_limit", "part", bottleneck(found).name))
        for name, stream in TRANSACTIONS[direction].items():
            rows.append(Row(case, name, "1/packet", counts[stream].rate / rate))
    rate = max(rates.values())
    rows += [Row(case, f"axi.{name.removeprefix('axi_')}", "1/packet", counts[name].rate / rate) for name in CHANNELS]
    if not machine.link.wires:
        capacity = machine.link.bytes_per_cycle(machine.nic.clock_khz)
        for name in AMOUNTS:
            rows.append(Row(case, name, "B/packet", counts[name].rate / rate))
            rows.append(Row(case, f"{name.removesuffix('bytes')}share", "%", 100 * counts[name].rate / capacity))
    return rows
