# SPDX-License-Identifier: BSD-2-Clause
"""Interrupts of the IOMMU: causes, their pending bits, and wires (sections 6.18 and 6.27)."""

from typing import Any

from amaranth import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import IommuConfig
from hw.iommu.register_access import RegisterWrite, merged, register_layout, written


class IommuInterrupts(wiring.Component):
    """Keeps registers ipsr and icvec, and drives a wire for each vector: high while any cause of it is pending.

    A pending bit is set by its cause and cleared by software's write of 1. Where the cause is a state that persists, it
    is set again in the following cycle, so that the wire shows an edge; an event in the very cycle of the write is
    not lost.

    Ports
    -----
    write : In
        Register writes.
    cqcsr, fqcsr : In
        Registers, of which error bits and enables count.
    recorded : In
        For one cycle: a fault record became visible.
    overflowed : In
        For one cycle: a counter's OF became 1.
    ipsr, icvec : Out
        Registers.
    interrupts : Out
        Wires.
    """

    def __init__(self, config: IommuConfig):
        self._vectors = config.vectors
        super().__init__(
            {
                "write": In(RegisterWrite),
                "cqcsr": In(register_layout("cqcsr")),
                "fqcsr": In(register_layout("fqcsr")),
                "recorded": In(1),
                "overflowed": In(1),
                "ipsr": Out(register_layout("ipsr")),
                "icvec": Out(register_layout("icvec")),
                "interrupts": Out(config.vectors),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        cq, fq, pending = self.cqcsr, self.fqcsr, self.ipsr
        with m.If(cq.cie & (cq.cqmf | cq.cmd_to | cq.cmd_ill | cq.fence_w_ip)):
            m.d.sync += pending.cip.eq(1)
        with m.If(fq.fie & (fq.fqmf | fq.fqof)):
            m.d.sync += pending.fip.eq(1)
        with m.If(written(self.write, "ipsr")):
            cleared = merged(self.write, "ipsr", pending)
            for name in ("cip", "fip", "pmip"):
                with m.If(cleared[name]):
                    m.d.sync += pending[name].eq(0)
        with m.If(fq.fie & self.recorded):
            m.d.sync += pending.fip.eq(1)
        with m.If(self.overflowed):
            m.d.sync += pending.pmip.eq(1)

        causes = {"civ": pending.cip, "fiv": pending.fip, "pmiv": pending.pmip, "piv": pending.pip}
        with m.If(written(self.write, "icvec")):
            new = merged(self.write, "icvec", self.icvec)
            for name in causes:
                m.d.sync += self.icvec[name].eq(Mux(new[name] < self._vectors, new[name], 0))
        for vector in range(self._vectors):
            mine = Cat(bit & (self.icvec[name] == vector) for name, bit in causes.items())
            m.d.comb += self.interrupts[vector].eq(mine.any())
        return m
