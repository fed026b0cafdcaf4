# SPDX-License-Identifier: BSD-2-Clause
"""Register ddtp (section 6.5)."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import PAGE_SHIFT, DirectoryMode
from hw.config import IommuConfig
from hw.iommu.interfaces import Directory
from hw.iommu.register_access import RegisterWrite, merged, register_layout, written


class DirectoryRegister(wiring.Component):
    """Holds ddtp, and after a write ``busy`` until every access that was accepted before is done.

    A directory of one kind is left only through OFF or BARE: a write that would change or keep a mode of 1 to 3 levels
    is ignored, and so is one of a reserved mode, or while busy.

    Ports
    -----
    write : In
        Register writes.
    ddtp : Out
        The register.
    directory : Out
        What of it the rest uses.
    fence, fenced : Out, In
        A wait for older accesses: see :class:`hw.iommu.fences.Fences`.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "write": In(RegisterWrite),
                "ddtp": Out(register_layout("ddtp")),
                "directory": Out(Directory),
                "fence": Out(1),
                "fenced": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        physical = (1 << self._config.physical_bits) - 1 >> PAGE_SHIFT
        ddtp = self.ddtp
        new = merged(self.write, "ddtp", ddtp)
        levels, legal = DirectoryMode.BARE.value, Signal()
        m.d.comb += [
            legal.eq(
                (new.iommu_mode <= DirectoryMode.LVL3.value)
                & ((ddtp.iommu_mode <= levels) | (new.iommu_mode <= levels))
            ),
            self.fence.eq(ddtp.busy),
            self.directory.mode.eq(ddtp.iommu_mode),
            self.directory.ppn.eq(ddtp.ppn),
        ]
        with m.If(self.fenced):
            m.d.sync += ddtp.busy.eq(0)
        with m.If(written(self.write, "ddtp") & ~ddtp.busy & legal):
            m.d.sync += [ddtp.iommu_mode.eq(new.iommu_mode), ddtp.ppn.eq(new.ppn & physical), ddtp.busy.eq(1)]
        return m
