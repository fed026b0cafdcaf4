# SPDX-License-Identifier: BSD-2-Clause
"""Translations that software asks for (chapter 5)."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import Cause, TransactionType
from hw.config import IommuConfig
from hw.iommu.interfaces import (
    Access,
    ClaimSignature,
    FaultReport,
    FenceSignature,
    LookupEvent,
    PageSize,
    WalkResult,
    WalkSignature,
    fault_iotval2,
    sized_page,
)
from hw.iommu.register_access import RegisterWrite, merged, register_layout, written

TTYP = {
    Access.EXECUTE: TransactionType.UNTRANSLATED_EXECUTE,
    Access.WRITE: TransactionType.UNTRANSLATED_WRITE,
    Access.READ: TransactionType.UNTRANSLATED_READ,
}


class DebugTranslation(wiring.Component):
    """Translates what tr_req_iova and tr_req_ctl ask for, as an untranslated request.

    It never looks in the IOTLB but asks for walks: for execute permission where Exe = 1, then for write permission
    where NW = 0, or for read permission where NW = 1. The first fault ends it, and is reported like any other
    (chapter 5). Answers for superpages have their size in the PPN. Both registers ignore writes while Go/Busy is 1.

    Ports
    -----
    write : In
        Register writes.
    tr_req_iova, tr_req_ctl, tr_response : Out
        Registers.
    walk, claim : Out
        To the walk table.
    fault : Out, stream
        To the fault queue.
    event : Out
        The request, for the performance counters.
    fence : In
        A request is an access that fences wait for: its walk reads tables, and may set A and D bits in them.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "write": In(RegisterWrite),
                "tr_req_iova": Out(register_layout("tr_req_iova")),
                "tr_req_ctl": Out(register_layout("tr_req_ctl")),
                "tr_response": Out(register_layout("tr_response")),
                "walk": Out(WalkSignature(config)),
                "claim": Out(ClaimSignature(config)),
                "fault": Out(stream.Signature(FaultReport)),
                "event": Out(LookupEvent),
                "fence": In(FenceSignature()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        iova, control = self.tr_req_iova, self.tr_req_ctl
        access = Signal(Access)
        result = Signal(WalkResult)
        walk = Signal(range(self._config.walks))
        starts = Signal()
        color = Signal()
        m.d.comb += [busy.eq(control.go_busy & (color == k)) for k, busy in enumerate(self.fence.busy)]
        with m.If(~control.go_busy):
            m.d.sync += color.eq(self.fence.color)
            with m.If(written(self.write, "tr_req_iova")):
                m.d.sync += iova.eq(merged(self.write, "tr_req_iova", iova))
            with m.If(written(self.write, "tr_req_ctl")):
                m.d.sync += control.eq(merged(self.write, "tr_req_ctl", control))

        wanted = self.walk.wanted
        m.d.comb += [
            wanted.requester.device_id.eq(control.did),
            wanted.requester.process_id.eq(Mux(control.pv, control.pid, 0)),
            wanted.requester.process_id_valid.eq(control.pv),
            wanted.page.eq(iova.vpn),
            wanted.access.eq(access),
            self.claim.look.eq(walk),
            self.event.strobe.eq(starts),
            self.event.requester.eq(wanted.requester),
        ]
        last = Mux(control.nw, Access.READ, Access.WRITE)
        self._report(m, access, result)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += access.eq(Mux(control.exe, Access.EXECUTE, last))
                with m.If(control.go_busy):
                    m.d.comb += starts.eq(1)
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.walk.request.eq(1)
                m.d.sync += walk.eq(self.walk.walk)
                with m.If(self.walk.taken):
                    m.next = "WALK"
            with m.State("WALK"):
                m.d.sync += result.eq(self.claim.result)
                with m.If(self.claim.finished.bit_select(walk, 1)):
                    m.d.comb += self.claim.release.eq(1)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.sync += access.eq(last)
                with m.If((result.cause == Cause.NONE) & (access == Access.EXECUTE)):
                    m.next = "ASK"
                with m.Else():
                    m.d.sync += [
                        self.tr_response.fault.eq(result.cause != Cause.NONE),
                        self.tr_response.s.eq(result.size != PageSize.SIZE_4K),
                        self.tr_response.ppn.eq(sized_page(result.ppn, result.size)),
                    ]
                    with m.If((result.cause == Cause.NONE) | result.quiet):
                        m.d.sync += control.go_busy.eq(0)
                        m.next = "IDLE"
                    with m.Else():
                        m.d.sync += self.fault.valid.eq(1)
                        m.next = "REPORT"
            with m.State("REPORT"):
                with m.If(self.fault.ready):
                    m.d.sync += [self.fault.valid.eq(0), control.go_busy.eq(0)]
                    m.next = "IDLE"
        return m

    def _report(self, m: Module, access: Signal, result: Any) -> None:
        control, report = self.tr_req_ctl, self.fault.payload
        address = Cat(Const(0, 12), self.tr_req_iova.vpn)
        ttyp = Signal(TransactionType)
        with m.Switch(access):
            for each, code in TTYP.items():
                with m.Case(each):
                    m.d.comb += ttyp.eq(code)
        # The access changes with the answer's cycle, so what was asked for last is kept.
        with m.If(self.claim.release):
            m.d.sync += report.ttyp.eq(ttyp)
        m.d.comb += [
            report.cause.eq(result.cause),
            report.device_id.eq(control.did),
            report.process_id.eq(control.pid),
            report.process_id_valid.eq(control.pv),
            report.privileged.eq(control.priv),
            report.iotval.eq(address),
            report.iotval2.eq(fault_iotval2(result, address)),
        ]
