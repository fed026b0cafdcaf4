# SPDX-License-Identifier: BSD-2-Clause
"""The fault queue (section 4.2)."""

from typing import Any

from amaranth import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import FAULT_BYTES, PAGE_SHIFT, FaultRecord
from hw.bus.axi4 import AXI4Signature, Response
from hw.iommu.interfaces import FaultReport
from hw.iommu.register_access import RegisterWrite, index_mask, merged, register_layout, written
from hw.iommu.walk_port import BEAT_SIZE, FAULT_ID, WIDTH

DEPTH = 4  #: reports that wait of each source
IN_FLIGHT = 4  #: records that memory has not acknowledged
BEATS = FAULT_BYTES // (WIDTH // 8)


class FaultQueue(wiring.Component):
    """Writes a record of each report to memory; ``fqt`` goes one further when the record's write is acknowledged.

    Sources take turns. Reports are taken one in six cycles as long as memory keeps up, and one a cycle while records
    are discarded: while the queue is off, and from an overflow or a memory fault until software clears its bit. So a
    report waits for memory at most, never for software.

    With ``fqmf``, records whose writes were already under way behind the failing one are discarded as well.

    Parameters
    ----------
    sources : number of sources

    Ports
    -----
    write, fqb, fqh : In
        Register writes, and the queue's place.
    fqt, fqcsr : Out
        Registers.
    faults : In, streams
        Reports of each source.
    recorded : Out
        For one cycle: ``fqt`` is about to go one further.
    axi : AXI4
        Records are written with ID 65; nothing is read.
    """

    def __init__(self, sources: int):
        self._sources = sources
        super().__init__(
            {
                "write": In(RegisterWrite),
                "fqb": In(register_layout("fqb")),
                "fqh": In(register_layout("fqh")),
                "fqt": Out(register_layout("fqt")),
                "fqcsr": Out(register_layout("fqcsr")),
                "faults": In(stream.Signature(FaultReport)).array(sources),
                "recorded": Out(1),
                "axi": Out(AXI4Signature(WIDTH)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        csr, axi = self.fqcsr, self.axi
        report, waits, take = self._sources_in_turn(m)

        mask = Signal(32)
        place = Signal(32)  # of the next record to write, which is the tail when none is in flight
        in_flight = Signal(range(IN_FLIGHT + 1))
        begun, acknowledged = Signal(), Signal()
        failed = Signal()  # records in flight lie behind one that failed
        found_fault, found_overflow = Signal(), Signal()
        record = Signal(FaultRecord)
        beat = Signal(range(BEATS))
        words = Array(record.as_value().word_select(number, WIDTH) for number in range(BEATS))
        idle = ~axi.aw.valid & ~axi.w.valid
        m.d.comb += mask.eq(index_mask(self.fqb))
        m.d.sync += in_flight.eq(in_flight + begun - acknowledged)

        with m.If(waits & idle & ~failed):
            with m.If(~(csr.fqon & csr.fqen) | csr.fqmf | csr.fqof):
                m.d.comb += take.eq(1)
            with m.Elif(((place + 1) & mask) == self.fqh.index):
                m.d.comb += [take.eq(1), found_overflow.eq(1)]
            with m.Elif(in_flight != IN_FLIGHT):
                address = Cat(Const(0, 5), place) | Cat(Const(0, PAGE_SHIFT), self.fqb.ppn)
                m.d.comb += [take.eq(1), begun.eq(1)]
                m.d.sync += [
                    axi.aw.valid.eq(1),
                    axi.aw.payload.addr.eq(address),
                    axi.w.valid.eq(1),
                    beat.eq(0),
                    place.eq((place + 1) & mask),
                    record.eq(report),
                ]
        with m.If(axi.aw.valid & axi.aw.ready):
            m.d.sync += axi.aw.valid.eq(0)
        with m.If(axi.w.valid & axi.w.ready):
            m.d.sync += [beat.eq(beat + 1), axi.w.valid.eq(beat != BEATS - 1)]
        m.d.comb += [
            axi.aw.payload.id.eq(FAULT_ID),
            axi.aw.payload.len.eq(BEATS - 1),
            axi.aw.payload.size.eq(BEAT_SIZE),
            axi.w.payload.data.eq(words[beat]),
            axi.w.payload.strb.eq(0xFF),
            axi.w.payload.last.eq(beat == BEATS - 1),
            axi.b.ready.eq(1),
            acknowledged.eq(axi.b.valid),
            self.recorded.eq(acknowledged & ~failed & (axi.b.payload.resp == Response.OKAY)),
            found_fault.eq(acknowledged & ~failed & (axi.b.payload.resp != Response.OKAY)),
        ]
        with m.If(self.recorded):
            m.d.sync += self.fqt.index.eq((self.fqt.index + 1) & mask)
        with m.If(found_fault):
            m.d.sync += failed.eq(1)
        with m.Elif(failed & (in_flight == 0) & idle):
            m.d.sync += [failed.eq(0), place.eq(self.fqt.index)]

        m.d.comb += csr.busy.eq(csr.fqen ^ csr.fqon)
        with m.If(csr.fqen | (idle & (in_flight == 0))):
            m.d.sync += csr.fqon.eq(csr.fqen)
        with m.If(written(self.write, "fqcsr") & ~csr.busy):
            new = merged(self.write, "fqcsr", csr)
            starts = new.fqen & ~csr.fqen
            m.d.sync += [
                csr.fqen.eq(new.fqen),
                csr.fie.eq(new.fie),
                csr.fqmf.eq(csr.fqmf & ~new.fqmf & ~starts),
                csr.fqof.eq(csr.fqof & ~new.fqof & ~starts),
            ]
            with m.If(starts):
                m.d.sync += [place.eq(0), self.fqt.index.eq(0)]
        with m.If(found_fault):
            m.d.sync += csr.fqmf.eq(1)
        with m.If(found_overflow):
            m.d.sync += csr.fqof.eq(1)
        return m

    def _sources_in_turn(self, m: Module) -> tuple[Any, Signal, Signal]:
        """The next report as a record, whether there is one, and the signal that takes it."""
        waits, take = Signal(), Signal()
        record = Signal(FaultRecord)
        shape = FaultReport.as_shape()
        last, chosen = Signal(range(self._sources)), Signal(range(self._sources))
        report = Signal(FaultReport)
        ready = Signal(self._sources)
        reports = []
        for source, port in enumerate(self.faults):
            m.submodules[f"reports_{source}"] = fifo = SyncFIFO(width=shape.size, depth=DEPTH)
            m.d.comb += [
                fifo.w_data.eq(port.payload.as_value()),
                fifo.w_en.eq(port.valid),
                port.ready.eq(fifo.w_rdy),
                fifo.r_en.eq(take & (chosen == source)),
                ready[source].eq(fifo.r_rdy),
            ]
            reports.append(fifo.r_data)
        m.d.comb += [chosen.eq(last), waits.eq(ready.any()), report.eq(Array(reports)[chosen])]
        with m.Switch(last):
            for source in range(self._sources):
                with m.Case(source):
                    for step in reversed(range(1, self._sources + 1)):
                        with m.If(ready[(source + step) % self._sources]):
                            m.d.comb += chosen.eq((source + step) % self._sources)
        with m.If(take):
            m.d.sync += last.eq(chosen)
        pid = report.process_id_valid
        m.d.comb += [
            record.cause.eq(report.cause),
            record.pid.eq(Mux(pid, report.process_id, 0)),
            record.pv.eq(pid),
            record.priv.eq(pid & report.privileged),
            record.ttyp.eq(report.ttyp),
            record.did.eq(report.device_id),
            record.iotval.eq(report.iotval),
            record.iotval2.eq(report.iotval2),
        ]
        return record, waits, take
