# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU between a device that plays scripts and a memory that echoes, in either simulator."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.iommu import Iommu
from sim.host.dram import Dram
from sim.host.dram_config import DramConfig
from sim.host.storage import Storage
from tests.golden.model import Capabilities
from tests.golden.player import RESULT_BYTES, ROW_BYTES, ROWS, Echo, Player

MEMORY_BYTES = 2 << 20  #: of which the second MiB is for queues
CLOCK_KHZ = 250_000
SOURCE = hashlib.sha256(Path(__file__).read_bytes() + Path(__file__).with_name("player.py").read_bytes()).hexdigest()


def capabilities(config: IommuConfig) -> Capabilities:
    """What an IOMMU of this configuration offers."""
    return Capabilities(
        sv48=config.first_levels == 4,
        sv48x4=config.second_levels == 4,
        amo_hwad=config.hardware_ad,
        ats=config.ats,
        physical_bits=config.physical_bits,
    )


class Machine(wiring.Component):
    """Player, IOMMU and echo; tables are in storage "tables", behind the walker's port."""

    def __init__(self, config: IommuConfig, walker_latency_ns: float):
        self.config = config
        self.walker_latency_ns = walker_latency_ns
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.iommu = iommu = Iommu(self.config)
        m.submodules.player = player = Player()
        m.submodules.echo = echo = Echo()
        dram = Dram(DramConfig(walker_latency_ns=self.walker_latency_ns), 64, MEMORY_BYTES, CLOCK_KHZ)
        m.submodules.dram = dram
        for name, port, size, width in (
            ("tables", dram.storage, MEMORY_BYTES, 64),
            ("script", player.script, ROWS * ROW_BYTES, ROW_BYTES * 8),
            ("results", player.results, ROWS * RESULT_BYTES, RESULT_BYTES * 8),
            ("written", player.written, ROWS * RESULT_BYTES, RESULT_BYTES * 8),
            ("seen", echo.seen, ROWS * RESULT_BYTES, RESULT_BYTES * 8),
        ):
            m.submodules[name] = storage = Storage(name, size, width, exchange=name == "tables")
            connect(m, port, storage.port)
        join(m, player.device, iommu.device)
        join(m, player.registers, iommu.registers)
        join(m, iommu.memory, echo.axi)
        join(m, iommu.walker, dram.walker)
        return m


@dataclass(frozen=True)
class GoldenDesign:
    """A machine of this configuration."""

    config: IommuConfig
    walker_latency_ns: float = 40.0
    source: str = field(default=SOURCE)  #: so that a kept model is of this source
    access_log: bool = False

    def build(self) -> wiring.Component:
        return Machine(self.config, self.walker_latency_ns)
