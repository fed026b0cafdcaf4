# SPDX-License-Identifier: BSD-2-Clause
"""A small device with the NIC's ports, for trying the machine around it."""

from dataclasses import dataclass
from typing import Any

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.axi_lite import AXILiteSignature
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from sim.config import MachineConfig
from sim.machine import Machine
from tests.sim.identity_iommu import IdentityIommu

DEVICE_ID = 0x12


class LoopDevice(wiring.Component):
    """Sends what it receives. A write of an address to register 0 makes it store 64 bytes there, a count in each word,
    and interrupt with vector 9 when that is acknowledged; a read of register 8 gives the last word of them from memory,
    refused if memory refused it. Other registers are refused."""

    def __init__(self, config: NicConfig):
        self.config = config
        frames = packet_stream(config.data_width, config.serial_width)
        super().__init__(
            {
                "axi": Out(AXI4Signature(config.data_width)),
                "registers": In(AXILiteSignature(config.mmio_addr_width)),
                "wire_rx": In(frames),
                "wire_tx": Out(frames),
                "interrupt": Out(stream.Signature(16)),
                "carrier": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        axi, registers = self.axi, self.registers
        word = self.config.data_width // 8
        beats = 64 // word
        connect(m, flipped(self.wire_rx), flipped(self.wire_tx))
        address, beat, count = Signal(64), Signal(range(beats)), Signal(8)
        refused = Signal()
        for burst in (axi.aw.p, axi.ar.p):
            m.d.comb += [burst.size.eq(word.bit_length() - 1), burst.user.device_id.eq(DEVICE_ID)]
        m.d.comb += [
            axi.aw.p.addr.eq(address),
            axi.aw.p.len.eq(beats - 1),
            axi.ar.p.addr.eq(address + 64 - word),
            axi.w.p.data.eq((count << 8) | beat),
            axi.w.p.strb.eq(-1),
            axi.w.p.last.eq(beat == beats - 1),
            self.interrupt.payload.eq(9),
        ]
        with m.FSM():
            with m.State("idle"):
                with m.If(registers.aw.valid & registers.w.valid):
                    m.d.comb += [registers.aw.ready.eq(1), registers.w.ready.eq(1)]
                    m.d.sync += refused.eq(registers.aw.p.addr != 0)
                    with m.If(registers.aw.p.addr == 0):
                        m.d.sync += [address.eq(registers.w.p.data), count.eq(count + 1)]
                    m.next = "written"
                with m.Elif(registers.ar.valid):
                    m.d.comb += registers.ar.ready.eq(1)
                    m.d.sync += refused.eq(registers.ar.p.addr != 8)
                    m.next = "ask"
            with m.State("written"):
                m.d.comb += [
                    registers.b.valid.eq(1),
                    registers.b.p.resp.eq(refused.replicate(2) & Response.SLVERR.value),
                ]
                with m.If(registers.b.ready):
                    with m.If(refused):
                        m.next = "idle"
                    with m.Else():
                        m.next = "address"
            with m.State("address"):
                m.d.comb += axi.aw.valid.eq(1)
                with m.If(axi.aw.ready):
                    m.next = "data"
            with m.State("data"):
                m.d.comb += axi.w.valid.eq(1)
                with m.If(axi.w.ready):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If(axi.w.p.last):
                        m.d.sync += beat.eq(0)
                        m.next = "acknowledge"
            with m.State("acknowledge"):
                m.d.comb += axi.b.ready.eq(1)
                with m.If(axi.b.valid):
                    m.next = "interrupt"
            with m.State("interrupt"):
                m.d.comb += self.interrupt.valid.eq(1)
                with m.If(self.interrupt.ready):
                    m.next = "idle"
            with m.State("ask"):
                m.d.comb += axi.ar.valid.eq(1)
                with m.If(axi.ar.ready):
                    m.next = "answer"
            with m.State("answer"):
                m.d.comb += [
                    axi.r.ready.eq(registers.r.ready),
                    registers.r.valid.eq(axi.r.valid),
                    registers.r.p.data.eq(axi.r.p.data[:64]),
                    registers.r.p.resp.eq(
                        (refused | (axi.r.p.resp != Response.OKAY)).replicate(2) & Response.SLVERR.value
                    ),
                ]
                with m.If(axi.r.valid & axi.r.ready):
                    m.next = "idle"
        return m


@dataclass(frozen=True)
class LoopMachineConfig(MachineConfig):
    """A machine around a :class:`LoopDevice` and, if it has an IOMMU, an :class:`IdentityIommu`."""

    def build(self) -> Machine:
        return Machine(self, LoopDevice(self.nic), None if self.iommu is None else IdentityIommu(self.iommu))
