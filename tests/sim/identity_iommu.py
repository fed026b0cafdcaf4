# SPDX-License-Identifier: BSD-2-Clause
"""A small thing with the IOMMU's ports, for trying the machine around it."""

from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.axi_lite import AXILiteSignature
from hw.config import IommuConfig


class IdentityIommu(wiring.Component):
    """Every address is its own translation. Register 0 keeps what is written; register 8 drives the interrupt wires; a
    read of register 16 gives the word of memory whose address register 0 has, read through the walker's port. Others
    are refused."""

    def __init__(self, config: IommuConfig):
        self.config = config
        axi = AXI4Signature(config.data_width)
        super().__init__(
            {
                "device": In(axi),
                "memory": Out(axi),
                "walker": Out(AXI4Signature(64)),
                "registers": In(AXILiteSignature(12)),
                "interrupts": Out(config.vectors),
                "invalidate": Out(stream.Signature(64)),
                "invalidated": In(stream.Signature(64)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        connect(m, flipped(self.device), flipped(self.memory))
        registers, walker = self.registers, self.walker
        kept, place = Signal(64), Signal(12)
        mask = Cat(strobe.replicate(8) for strobe in registers.w.p.strb)
        m.d.comb += [
            walker.ar.p.addr.eq(kept),
            walker.ar.p.size.eq(3),
            walker.ar.p.id.eq(5),
            registers.r.p.data.eq(walker.r.p.data),
            registers.r.p.resp.eq(walker.r.p.resp),
        ]
        with m.FSM():
            with m.State("idle"):
                m.d.sync += place.eq(registers.ar.p.addr)
                with m.If(registers.aw.valid & registers.w.valid):
                    m.d.comb += [registers.aw.ready.eq(1), registers.w.ready.eq(1)]
                    m.d.sync += place.eq(registers.aw.p.addr)
                    with m.Switch(registers.aw.p.addr):
                        with m.Case(0):
                            m.d.sync += kept.eq((kept & ~mask) | (registers.w.p.data & mask))
                        with m.Case(8):
                            m.d.sync += self.interrupts.eq(registers.w.p.data)
                    m.next = "written"
                with m.Elif(registers.ar.valid):
                    m.d.comb += registers.ar.ready.eq(1)
                    m.next = "read"
                    with m.If(registers.ar.p.addr == 16):
                        m.next = "walk"
            with m.State("written"):
                m.d.comb += [
                    registers.b.valid.eq(1),
                    registers.b.p.resp.eq((place > 8).replicate(2) & Response.SLVERR.value),
                ]
                with m.If(registers.b.ready):
                    m.next = "idle"
            with m.State("read"):
                m.d.comb += [
                    registers.r.valid.eq(1),
                    registers.r.p.data.eq(kept),
                    registers.r.p.resp.eq((place > 0).replicate(2) & Response.SLVERR.value),
                ]
                with m.If(registers.r.ready):
                    m.next = "idle"
            with m.State("walk"):
                m.d.comb += walker.ar.valid.eq(1)
                with m.If(walker.ar.ready):
                    m.next = "walked"
            with m.State("walked"):
                m.d.comb += [registers.r.valid.eq(walker.r.valid), walker.r.ready.eq(registers.r.ready)]
                with m.If(walker.r.valid & walker.r.ready):
                    m.next = "idle"
        return m
