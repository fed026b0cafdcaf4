# SPDX-License-Identifier: BSD-2-Clause
"""The registers of :file:`hw/abi/iommu.rdl` on AXI4-Lite."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import PAGE_SHIFT
from hw.abi.iommu_registers import ADDRESS_BITS, iommu_registers
from hw.bus.axi4 import Response
from hw.bus.axi_lite import DATA_WIDTH, AXILiteSignature
from hw.config import IommuConfig
from hw.iommu.register_access import (
    ROW_BITS,
    ROW_BYTES,
    RegisterWrite,
    index_mask,
    merged,
    register_layout,
    row_of,
    written,
)

#: Base of each queue, and the index that software moves.
QUEUES = {"cqb": "cqt", "fqb": "fqh", "pqb": "pqh"}
PAGE_REQUESTS = ("pqb", "pqh", "pqcsr")
#: Registers whose value other blocks hold.
GIVEN = (
    "ddtp",
    "cqh",
    "fqt",
    "cqcsr",
    "fqcsr",
    "ipsr",
    "tr_req_iova",
    "tr_req_ctl",
    "tr_response",
    "icvec",
)


def capabilities(config: IommuConfig) -> int:
    """Value of register capabilities."""
    return iommu_registers()["capabilities"].pack(
        version=0x10,
        sv39=1,
        sv48=config.first_levels == 4,
        sv39x4=1,
        sv48x4=config.second_levels == 4,
        amo_hwad=config.hardware_ad,
        ats=config.ats,
        igs=1,
        hpm=config.counters > 0,
        dbg=1,
        pas=config.physical_bits,
        nl=1,
        s=1,
    )


class RegisterBlock(wiring.Component):
    """AXI4-Lite subordinate with every register of the description, one access at a time.

    A write is answered two cycles after its address and data are both there, a read two cycles after its address.
    Writes and reads take turns when both wait. A write is of 8 bytes to a row without 4-byte registers, or of one
    aligned half of a row; anything else, and an address that is no multiple of 4, is answered SLVERR and does nothing.
    A read gives the whole row: AXI4-Lite does not say which half is wanted, and no read has a side effect. Where no
    register is, or one that this configuration lacks, reads give 0 and writes are ignored (chapter 6).

    The registers of the queues are held here. An index keeps only the bits that its queue's size leaves, and becomes 0
    when the base is written. There is a page request queue with ATS, which stays empty: nothing asks for pages.

    Ports
    -----
    bus : In
        The registers.
    write : Out
        Accepted writes, one cycle before their response is offered.
    row : Out, counter : In
        The row being read, and what the performance counters have there; combinational.
    cqb, cqt, fqb, fqh : Out
        Registers held here.
    ddtp, cqh, fqt, cqcsr, fqcsr, ipsr, tr_req_iova, tr_req_ctl, tr_response, icvec : In
        Values of registers held elsewhere.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "bus": In(AXILiteSignature(ADDRESS_BITS)),
                "write": Out(RegisterWrite),
                "row": Out(ROW_BITS),
                "counter": In(DATA_WIDTH),
                **{name: Out(register_layout(name)) for name in ("cqb", "cqt", "fqb", "fqh")},
                **{name: In(register_layout(name)) for name in GIVEN},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus = self.bus
        address = Signal(ADDRESS_BITS)
        strobes = Signal(ROW_BYTES)
        response = Signal(Response)
        read_next = Signal()
        values = self._values(m)

        halves = Signal(2)
        narrow = Signal()  # the row has 4-byte registers
        fitting = Signal()
        m.d.comb += [
            self.row.eq(address[3:]),
            self.write.row.eq(address[3:]),
            self.write.halves.eq(halves),
            halves.eq(Cat(strobes[0], strobes[4])),
            bus.b.payload.resp.eq(response),
            bus.r.payload.resp.eq(response),
        ]
        with m.Switch(address[3:]):
            with m.Case(*{r.offset // ROW_BYTES for r in iommu_registers().values() if r.width == 32}):
                m.d.comb += narrow.eq(1)
        with m.Switch(strobes):
            with m.Case(0x0F):
                m.d.comb += fitting.eq(~address[2])
            with m.Case(0xF0):
                m.d.comb += fitting.eq(1)
            with m.Case(0xFF):
                m.d.comb += fitting.eq(~address[2] & ~narrow)
        aligned = address[:2] == 0

        with m.FSM():
            with m.State("IDLE"):
                writing = bus.aw.valid & bus.w.valid & ~(read_next & bus.ar.valid)
                with m.If(writing):
                    m.d.comb += [bus.aw.ready.eq(1), bus.w.ready.eq(1)]
                    m.d.sync += [address.eq(bus.aw.payload.addr), read_next.eq(1)]
                    m.d.sync += [self.write.data.eq(bus.w.payload.data), strobes.eq(bus.w.payload.strb)]
                    m.next = "WRITE"
                with m.Elif(bus.ar.valid):
                    m.d.comb += bus.ar.ready.eq(1)
                    m.d.sync += [address.eq(bus.ar.payload.addr), read_next.eq(0)]
                    m.next = "READ"
            with m.State("WRITE"):
                m.d.comb += self.write.strobe.eq(aligned & fitting)
                m.d.sync += response.eq(Mux(aligned & fitting, Response.OKAY, Response.SLVERR))
                m.next = "WRITE RESPONSE"
            with m.State("WRITE RESPONSE"):
                m.d.comb += bus.b.valid.eq(1)
                with m.If(bus.b.ready):
                    m.next = "IDLE"
            with m.State("READ"):
                m.d.sync += [
                    response.eq(Mux(aligned, Response.OKAY, Response.SLVERR)),
                    bus.r.payload.data.eq(Mux(aligned, values, 0)),
                ]
                m.next = "READ RESPONSE"
            with m.State("READ RESPONSE"):
                m.d.comb += bus.r.valid.eq(1)
                with m.If(bus.r.ready):
                    m.next = "IDLE"
        return m

    def _values(self, m: Module) -> Value:
        """The row's registers, which are either given, held or constant."""
        held = {**self._held(m), **{name: getattr(self, name) for name in GIVEN}}
        constant = {"capabilities": capabilities(self._config), "fctl": iommu_registers()["fctl"].reset}
        value = Signal(DATA_WIDTH)
        m.d.comb += value.eq(self.counter)
        rows: dict[int, list[Value]] = {}
        for name, register in iommu_registers().items():
            if name in held or name in constant:
                word = Value.cast(held[name]) if name in held else Const(constant[name], register.width)
                row = rows.setdefault(row_of(name), [Const(0, 32), Const(0, 32)])
                if register.width == DATA_WIDTH:
                    row[:] = word[:32], word[32:]
                else:
                    row[register.offset // 4 % 2] = word
        with m.Switch(self.row):
            for number, words in rows.items():
                with m.Case(number):
                    m.d.comb += value.eq(Cat(words))
        return value

    def _held(self, m: Module) -> dict[str, Any]:
        """Registers of the queues."""
        physical = (1 << self._config.physical_bits) - 1 >> PAGE_SHIFT
        held: dict[str, Any] = {}
        for base_name, index_name in QUEUES.items():
            if base_name in PAGE_REQUESTS and not self._config.ats:
                continue
            if base_name in PAGE_REQUESTS:
                base, index = (Signal(register_layout(name), name=name) for name in (base_name, index_name))
            else:
                base, index = getattr(self, base_name), getattr(self, index_name)
            held[base_name], held[index_name] = base, index
            with m.If(written(self.write, base_name)):
                new = merged(self.write, base_name, base)
                m.d.sync += [base.log2sz_1.eq(new.log2sz_1), base.ppn.eq(new.ppn & physical), index.index.eq(0)]
            with m.If(written(self.write, index_name)):
                m.d.sync += index.index.eq(merged(self.write, index_name, index).index & index_mask(base))
        if self._config.ats:
            held["pqcsr"] = requests = Signal(register_layout("pqcsr"))
            with m.If(written(self.write, "pqcsr")):
                new = merged(self.write, "pqcsr", requests)
                m.d.sync += [requests.pqen.eq(new.pqen), requests.pie.eq(new.pie), requests.pqon.eq(new.pqen)]
        return held
