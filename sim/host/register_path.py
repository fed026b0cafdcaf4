# SPDX-License-Identifier: BSD-2-Clause
"""The way of register accesses across the host's own chip, to what sits there rather than behind a link."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.bus.axi_lite import AXILiteSignature
from sim.host.delay import MIN_DELAY, TIME_BITS, DelayFifo

DEPTH = 32  #: accesses under way each way, and writes without response


class RegisterPath(wiring.Component):
    """Hands accesses and responses on ``latency`` cycles after it took them, or later where the other side waits.

    A write enters when its address and data are both there. Accesses keep their order, and a read is handed on only
    when every write before it was answered: it never overtakes one, as on :class:`sim.host.link.HostLink`. Writes wait
    for each other only where the subordinate says so. Of a write and a read offered in one cycle the write goes first.

    Parameters
    ----------
    addr_width : address bits of the registers
    latency : cycles one way, 2 or more

    Ports
    -----
    cycle : In, the current cycle's number
    manager : In AXILiteSignature(addr_width), from the CPU
    subordinate : Out AXILiteSignature(addr_width), to the registers
    """

    def __init__(self, addr_width: int, latency: int):
        if not isinstance(latency, int) or isinstance(latency, bool) or latency < MIN_DELAY:
            raise ValueError(f"latency must be an integer of {MIN_DELAY} cycles or more, not {latency!r}")
        self.addr_width = addr_width
        self.latency = latency
        bus = AXILiteSignature(addr_width)
        super().__init__({"cycle": In(TIME_BITS), "manager": In(bus), "subordinate": Out(bus)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        manager, subordinate = self.manager, self.subordinate
        access = data.StructLayout({"write": 1, "addr": self.addr_width, "w": manager.w.payload.shape()})
        m.submodules.accesses = accesses = DelayFifo(access, DEPTH)
        m.submodules.written = written = DelayFifo(manager.b.payload.shape(), DEPTH)
        m.submodules.read = read = DelayFifo(manager.r.payload.shape(), DEPTH)
        for fifo in (accesses, written, read):
            m.d.comb += [fifo.now.eq(self.cycle), fifo.release.eq(self.cycle + self.latency)]
        wiring.connect(m, flipped(subordinate).b, written.input)
        wiring.connect(m, written.output, flipped(manager).b)
        wiring.connect(m, flipped(subordinate).r, read.input)
        wiring.connect(m, read.output, flipped(manager).r)

        write, head = Signal(), accesses.output.payload
        m.d.comb += [
            write.eq(manager.aw.valid & manager.w.valid),
            accesses.input.valid.eq(write | manager.ar.valid),
            accesses.input.payload.write.eq(write),
            accesses.input.payload.addr.eq(manager.ar.payload.addr),
            accesses.input.payload.w.eq(manager.w.payload),
            manager.aw.ready.eq(manager.w.valid & accesses.input.ready),
            manager.w.ready.eq(manager.aw.valid & accesses.input.ready),
            manager.ar.ready.eq(~write & accesses.input.ready),
        ]
        with m.If(write):
            m.d.comb += accesses.input.payload.addr.eq(manager.aw.payload.addr)

        unanswered = Signal(range(DEPTH + 1))
        address_taken, data_taken = Signal(), Signal()  # of the write at the head, while the other half is not
        writing, take = Signal(), Signal()
        m.d.comb += [
            subordinate.aw.payload.addr.eq(head.addr),
            subordinate.w.payload.eq(head.w),
            subordinate.ar.payload.addr.eq(head.addr),
            writing.eq(accesses.output.valid & head.write & (unanswered != DEPTH)),
            subordinate.aw.valid.eq(writing & ~address_taken),
            subordinate.w.valid.eq(writing & ~data_taken),
            subordinate.ar.valid.eq(accesses.output.valid & ~head.write & (unanswered == 0)),
            take.eq(writing & (address_taken | subordinate.aw.ready) & (data_taken | subordinate.w.ready)),
            accesses.output.ready.eq(take | (subordinate.ar.valid & subordinate.ar.ready)),
        ]
        m.d.sync += unanswered.eq(unanswered + take - (subordinate.b.valid & subordinate.b.ready))
        with m.If(writing):
            m.d.sync += [
                address_taken.eq(~take & (address_taken | subordinate.aw.ready)),
                data_taken.eq(~take & (data_taken | subordinate.w.ready)),
            ]
        return m
