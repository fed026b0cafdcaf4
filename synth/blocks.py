# SPDX-License-Identifier: BSD-2-Clause
"""``python -m synth.blocks BLOCK ...``: the frequency of single blocks of the NIC, each alone in a harness."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Signal, Value
from rich.console import Console

from hw.config import NicConfig, preset
from hw.nic.commit_fifo import CommitFifo
from hw.nic.dma.read import DmaReader
from hw.nic.dma.write import DmaWriter
from hw.nic.interrupts import Interrupts
from hw.nic.lifecycle import Lifecycle
from hw.nic.nic import Nic
from hw.nic.packet_buffer import PacketBuffer
from hw.nic.recycle.free_list import FreeList
from hw.nic.recycle.limits import PoolLimits
from hw.nic.recycle.low_water import LowWater
from hw.nic.recycle.recycle_fifo import RecycleFifo
from hw.nic.recycle.steady_state import SteadyState
from hw.nic.recycle.supply import RecycleSupply
from hw.nic.recycle.tracker import Tracker
from hw.nic.register_block import RegisterBlock
from hw.nic.rings.completion_writer import CompletionWriter
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from hw.nic.rx.aligner import WriteBeat
from hw.nic.rx.ingress import RxIngress
from hw.nic.rx.layouts import Segment
from hw.nic.rx.path import RxPath
from hw.nic.rx.planner import RxPlanner
from hw.nic.rx.steering import RxSteering
from hw.nic.rx.writer import RxWriter
from hw.nic.stats.counters import Stats
from hw.nic.tx.claims import TxClaims
from hw.nic.tx.egress import TxEgress
from hw.nic.tx.gather import TxGather
from hw.nic.tx.path import TxPath
from hw.nic.tx.scheduler import TxScheduler
from synth.designs import Design
from synth.harness import TOP, harness, ports_of
from synth.report import Result, module_table, path_table, result_of, table
from synth.tools import ToolError, map_to_cells, place_and_route

CLOCK_MHZ = 156.25

BLOCKS: Mapping[str, Callable[[NicConfig], Any]] = MappingProxyType(
    {
        "commit_fifo": lambda config: CommitFifo(Segment(config), 2 * config.fetch_depth),
        "completion_writer": lambda config: CompletionWriter(
            config, base="rx_completion_base", size="rx_completion_size", doorbell="rx_doorbell"
        ),
        "descriptor_fetch": lambda config: DescriptorFetch(
            config,
            base="rx_fill_base",
            size="rx_fill_size",
            doorbell="rx_doorbell",
            producer="fill_producer",
            recycling=config.pools != 0,
        ),
        "dma_reader": lambda config: DmaReader(config, [1, 1, config.read_ids]),
        "dma_writer": lambda config: DmaWriter(config, 3),
        "free_list": FreeList,
        "interrupts": Interrupts,
        "lifecycle": lambda config: Lifecycle(config, "rx", blocks=3, faults=3),
        "low_water": LowWater,
        "nic": Nic,
        "packet_buffer": lambda config: PacketBuffer(
            config.data_width, config.rx_buffer_bytes // config.beat_bytes, WriteBeat(config)
        ),
        "pool_limits": PoolLimits,
        "recycle_fifo": RecycleFifo,
        "recycle_supply": RecycleSupply,
        "register_block": RegisterBlock,
        "rx_ingress": RxIngress,
        "rx_path": RxPath,
        "rx_planner": RxPlanner,
        "rx_steering": RxSteering,
        "rx_writer": RxWriter,
        "stats": Stats,
        "steady_state": SteadyState,
        "tx_claims": TxClaims,
        "tracker": Tracker,
        "tx_egress": TxEgress,
        "tx_gather": TxGather,
        "tx_path": TxPath,
        "tx_scheduler": TxScheduler,
    }
)


def _ports(block: Any) -> dict[str, tuple[Signal, None]]:
    """The ports of a block that are signals: ``ready`` of a stream that never stalls is a constant."""
    members = [(path, Value.cast(value)) for path, _, value in block.signature.flatten(block)]
    return {"__".join(map(str, path)): (value, None) for path, value in members if isinstance(value, Signal)}


def build(name: str, config: NicConfig, out: Path, seed: int) -> Result:
    """Synthesize, place and route one block; its files stay in ``OUT/NAME``."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    block = BLOCKS[name](config)
    text = verilog.convert(block, name=name, emit_src=False, ports=_ports(block))
    text = re.sub(r"^ *(wire|input|output) \[-1:0\] .*;\n", "", text, flags=re.MULTILINE)
    (folder / f"{name}.v").write_text(text)
    top, takes = harness({"block": (name, ports_of("block", text, name))})
    (folder / f"{TOP}.v").write_text(top)
    cells = map_to_cells([f"{name}.v", f"{TOP}.v"], "ecp5", folder)
    report = place_and_route(CLOCK_MHZ, folder, seed)
    design = Design(name, {"block": config}, CLOCK_MHZ)
    return result_of(name, design, cells, takes, report, {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if a block does not reach the clock."""
    parser = argparse.ArgumentParser(
        prog="python -m synth.blocks", description="Frequency of the NIC's blocks, each alone."
    )
    parser.add_argument("block", nargs="+", help=f"what to build, of {', '.join(BLOCKS)}")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/synth/blocks"), metavar="DIR", help="folder")
    parser.add_argument("--preset", default="10g", help="of the NIC (default: %(default)s)")
    parser.add_argument("--on", default="", help="parameters of the NIC to switch on, joined by +")
    parser.add_argument("--seed", type=int, default=1, help="of the placement (default: %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.block:
        if name not in BLOCKS:
            parser.error(f"block must be one of {', '.join(BLOCKS)}, not {name!r}")
    config = preset(options.preset, **{name: True for name in options.on.split("+") if name})
    console = Console()
    results = []
    for name in options.block:
        try:
            results.append(build(name, config, options.out, options.seed))
        except ToolError as error:
            print(error, file=sys.stderr)
            return 2
        console.print(path_table(results[-1]))
        console.print(module_table(results[-1]))
    console.print(table(results))
    return int(any(not result.closes for result in results))


if __name__ == "__main__":
    sys.exit(main())
