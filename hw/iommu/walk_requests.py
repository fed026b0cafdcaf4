# SPDX-License-Identifier: BSD-2-Clause
"""What walks ask of memory, on its way."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import CONTEXT_BYTES, PTE_BYTES
from hw.bus.axi4 import AXI4Signature
from hw.config import IommuConfig
from hw.iommu.walk_port import BEAT_SIZE, WIDTH


class WalkRequests(wiring.Component):
    """Queues reads and exclusive writes for the walk port, each kind in order. A request is offered there from the next
    cycle on. None is ever refused, as no walk has more than one under way.

    Ports
    -----
    read, write : strobes; a write is always exclusive
    walk : becomes the ID
    address : of the entry
    context : it is a device context that is read, of 32 bytes, otherwise an entry of 8
    exclusive : how it is read
    entry : what is written
    axi : channels AR, AW and W
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "read": In(1),
                "write": In(1),
                "walk": In(range(config.walks)),
                "address": In(64),
                "context": In(1),
                "exclusive": In(1),
                "entry": In(64),
                "axi": Out(AXI4Signature(WIDTH).channels("ar", "aw", "w")),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ar, aw, w = self.axi.ar, self.axi.aw, self.axi.w
        walks = self._config.walks
        read = Signal(data.StructLayout({"walk": range(walks), "address": 64, "context": 1, "exclusive": 1}))
        write = Signal(data.StructLayout({"walk": range(walks), "address": 64, "entry": 64}))
        m.submodules.reads = reads = SyncFIFO(width=len(read.as_value()), depth=walks)
        m.submodules.writes = writes = SyncFIFO(width=len(write.as_value()), depth=walks)
        m.d.comb += [
            reads.w_en.eq(self.read),
            reads.w_data.eq(Cat(self.walk, self.address, self.context, self.exclusive)),
            read.eq(reads.r_data),
            reads.r_en.eq(ar.ready),
            ar.valid.eq(reads.r_rdy),
            ar.payload.id.eq(read.walk),
            ar.payload.addr.eq(read.address),
            ar.payload.len.eq(Mux(read.context, CONTEXT_BYTES // PTE_BYTES - 1, 0)),
            ar.payload.size.eq(BEAT_SIZE),
            ar.payload.lock.eq(read.exclusive),
        ]

        # Address and data may be taken in different cycles.
        addressed, delivered = Signal(), Signal()
        m.d.comb += [
            writes.w_en.eq(self.write),
            writes.w_data.eq(Cat(self.walk, self.address, self.entry)),
            write.eq(writes.r_data),
            writes.r_en.eq((addressed | aw.ready) & (delivered | w.ready)),
            aw.valid.eq(writes.r_rdy & ~addressed),
            aw.payload.id.eq(write.walk),
            aw.payload.addr.eq(write.address),
            aw.payload.size.eq(BEAT_SIZE),
            aw.payload.lock.eq(1),
            w.valid.eq(writes.r_rdy & ~delivered),
            w.payload.data.eq(write.entry),
            w.payload.strb.eq(~0),
            w.payload.last.eq(1),
        ]
        with m.If(writes.r_rdy):
            with m.If(writes.r_en):
                m.d.sync += [addressed.eq(0), delivered.eq(0)]
            with m.Else():
                m.d.sync += [addressed.eq(addressed | aw.ready), delivered.eq(delivered | w.ready)]
        return m
