# SPDX-License-Identifier: BSD-2-Clause
"""Answering a request that does not go to memory, mostly as it faulted: its record, then responses between memory's."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import ValueCastable
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import TransactionType
from hw.abi.rings import AddressType
from hw.bus.axi4 import AddressChannel, Response
from hw.iommu.interfaces import Access, FaultReport, WalkResult, fault_iotval2

_TTYP = {
    Access.READ: (TransactionType.UNTRANSLATED_READ, TransactionType.TRANSLATED_READ),
    Access.WRITE: (TransactionType.UNTRANSLATED_WRITE, TransactionType.TRANSLATED_WRITE),
}


class Accepted(data.StructLayout):
    """A request as it came from the device, and the fence's color of that cycle."""

    def __init__(self, id_width: int):
        super().__init__({"burst": AddressChannel(64, id_width), "color": 1})


class Refusal(wiring.Component):
    """Holds one faulting request until it is answered, and puts its SLVERR responses into memory's (B or R).

    The report is offered from the cycle after ``take``, unless the fault is quiet. Responses follow once it is taken
    and ``clear`` is on: one for a write, as many as the burst's beats for a read, with data 0. A translation request
    that is no error is answered here as well: without a report, OKAY and with its word. Responses alternate with
    memory's, which pass without delay when there are none.

    Parameters
    ----------
    response : layout of the response stream: :class:`hw.bus.axi4.WriteResponse` or :class:`hw.bus.axi4.ReadData`
    access : of the requests
    id_width : bits of an AXI ID

    Ports
    -----
    take, accepted, result : a request to be refused, and why; only while not ``busy``
    okay, word : it is not refused, but answered OKAY with ``word`` in each 64 bits of data; of reads only
    busy, id : one is held, of this ID
    clear : responses of the same ID that come before its own have been taken, and nothing of it is left in the channel
    report : stream of fault reports
    memory : stream of responses from memory; device : to the device
    finish, color, refused : the last response to the held request is taken; its color, and whether it was an error
    """

    def __init__(self, response: data.StructLayout, access: Access, *, id_width: int):
        if access not in _TTYP:
            raise ValueError(f"access must be READ or WRITE, not {access!r}")
        self.response = response
        self.access = access
        self.id_width = id_width
        super().__init__(
            {
                "take": In(1),
                "accepted": In(Accepted(id_width)),
                "result": In(WalkResult),
                "okay": In(1),
                "word": In(64),
                "busy": Out(1),
                "id": Out(id_width),
                "clear": In(1),
                "report": Out(stream.Signature(FaultReport)),
                "memory": In(stream.Signature(response)),
                "device": Out(stream.Signature(response)),
                "finish": Out(1),
                "color": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        reported = Signal()
        report = self.report.payload
        m.d.comb += self.report.valid.eq(self.busy & ~reported)
        with m.If(self.report.ready):
            m.d.sync += reported.eq(1)

        memory, device = self.memory, self.device
        errors_left = Signal(range(257))
        word = Signal(64)
        last = Signal()
        serve = Signal()  # an error response is on offer
        waits = Signal()  # memory's is, and was not taken
        turn = Signal()  # memory's goes first
        m.d.comb += [
            last.eq(errors_left == 1),
            serve.eq(self.busy & reported & self.clear & ~waits & ~(turn & memory.valid)),
            device.valid.eq(memory.valid | serve),
            memory.ready.eq(device.ready & ~serve),
            self.finish.eq(serve & device.ready & last),
        ]
        with m.If(serve):
            m.d.comb += [
                device.payload.id.eq(self.id),
                device.payload.resp.eq(Mux(self.refused, Response.SLVERR, Response.OKAY)),
            ]
            if self.access == Access.READ:
                words = len(device.payload.data) // 64
                m.d.comb += [device.payload.last.eq(last), device.payload.data.eq(word.replicate(words))]
        with m.Else():
            m.d.comb += device.payload.eq(memory.payload)
        m.d.sync += waits.eq(memory.valid & ~serve & ~device.ready)
        with m.If(device.valid):
            m.d.sync += turn.eq(serve & device.ready)
        with m.If(serve & device.ready):
            m.d.sync += errors_left.eq(errors_left - 1)
        with m.If(self.finish):
            m.d.sync += self.busy.eq(0)

        burst, result = self.accepted.burst, self.result
        with m.If(self.take):
            m.d.sync += [
                self.busy.eq(1),
                self.id.eq(burst.id),
                self.color.eq(self.accepted.color),
                errors_left.eq(burst.len + 1 if self.access == Access.READ else 1),
                reported.eq(result.quiet | self.okay),
                self.refused.eq(~self.okay),
                word.eq(self.word),
                report.cause.eq(result.cause),
                report.ttyp.eq(_transaction_type(m, self.access, burst.user.address_type)),
                report.device_id.eq(burst.user.device_id),
                report.process_id.eq(burst.user.process_id),
                report.process_id_valid.eq(burst.user.process_id_valid),
                report.iotval.eq(burst.addr),
                report.iotval2.eq(fault_iotval2(result, burst.addr)),
            ]
        return m


def _transaction_type(m: Module, access: Access, address_type: Value | ValueCastable) -> Signal:
    """A prefetch counts as a write like any other, for it is a kind of address that only we have."""
    untranslated, translated = _TTYP[access]
    ttyp = Signal(TransactionType)
    m.d.comb += ttyp.eq(
        Mux(
            address_type == AddressType.TRANSLATED,
            translated,
            Mux(address_type == AddressType.TRANSLATION_REQUEST, TransactionType.ATS_REQUEST, untranslated),
        )
    )
    return ttyp
