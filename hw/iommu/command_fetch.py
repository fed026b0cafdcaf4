# SPDX-License-Identifier: BSD-2-Clause
"""Reading the command queue ahead of its execution."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import COMMAND_BYTES, PAGE_SHIFT
from hw.bus.axi4 import AddressChannel, ReadData, Response
from hw.iommu.register_access import index_mask, register_layout
from hw.iommu.walk_port import BEAT_SIZE, COMMANDS_ID, WIDTH

DEPTH = 8  #: commands read ahead
BURST = 4  #: most commands in one read: none crosses a boundary of 64 bytes


class FetchedCommand(data.Struct):
    """A command as read, or that it could not be read."""

    command: 8 * COMMAND_BYTES
    failed: 1


class CommandFetch(wiring.Component):
    """Reads commands ahead, in order: up to ``DEPTH`` of them are here or on their way, in bursts of up to ``BURST``.

    While ``run`` is off, everything read ahead is thrown away; once ``idle``, reading can begin again, at ``head``.

    Ports
    -----
    run, head : In
        See above.
    base, tail : In
        Registers cqb and cqt.
    idle : Out
        Nothing is here or on its way.
    commands : Out, stream
        Taken in the same cycle or later.
    ar, r : AXI4, 64 bits
        Reads of ``COMMANDS_ID``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "run": In(1),
                "head": In(32),
                "base": In(register_layout("cqb")),
                "tail": In(32),
                "idle": Out(1),
                "commands": Out(stream.Signature(FetchedCommand)),
                "ar": Out(stream.Signature(AddressChannel(64, 8))),
                "r": In(stream.Signature(ReadData(WIDTH, 8))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        entry = FetchedCommand.as_shape()
        m.submodules.ready = fifo = SyncFIFO(width=entry.size, depth=DEPTH)
        following = Signal(32)  # the next command to ask for
        ahead = Signal(range(DEPTH + 1))
        mask, waiting = Signal(32), Signal(32)
        count = Signal(range(BURST + 1))
        to_line = BURST - following[: BURST.bit_length() - 1]
        asks, pops = Signal(), Signal()
        m.d.comb += [
            mask.eq(index_mask(self.base)),
            waiting.eq((self.tail - following) & mask),
            count.eq(Mux(waiting < to_line, waiting, to_line)),
            asks.eq(self.run & waiting.any() & (ahead <= DEPTH - BURST) & (~self.ar.valid | self.ar.ready)),
            self.idle.eq((ahead == 0) & ~self.ar.valid),
        ]
        m.d.sync += ahead.eq(ahead + Mux(asks, count, 0) - pops)
        with m.If(asks):
            address = Cat(Const(0, 4), following) | Cat(Const(0, PAGE_SHIFT), self.base.ppn)
            m.d.sync += [
                self.ar.valid.eq(1),
                self.ar.payload.addr.eq(address),
                self.ar.payload.len.eq(Cat(Const(1, 1), (count - 1)[: BURST.bit_length() - 1])),
                following.eq((following + count) & mask),
            ]
        with m.Elif(self.ar.ready):
            m.d.sync += self.ar.valid.eq(0)
        with m.If(~self.run):
            m.d.sync += following.eq(self.head)
        m.d.comb += [self.ar.payload.id.eq(COMMANDS_ID), self.ar.payload.size.eq(BEAT_SIZE)]

        # Two beats make a command; there is always room for what was asked for.
        low, low_failed, high = Signal(64), Signal(), Signal()
        failed = self.r.payload.resp != Response.OKAY
        arrived = data.View(entry, fifo.w_data)
        m.d.comb += [
            self.r.ready.eq(1),
            arrived.command.eq(Cat(low, self.r.payload.data)),
            arrived.failed.eq(low_failed | failed),
            fifo.w_en.eq(self.r.valid & high),
        ]
        with m.If(self.r.valid):
            m.d.sync += [high.eq(~high), low.eq(self.r.payload.data), low_failed.eq(failed)]
        m.d.comb += [
            self.commands.payload.eq(fifo.r_data),
            self.commands.valid.eq(fifo.r_rdy & self.run),
            pops.eq(fifo.r_rdy & (self.commands.ready | ~self.run)),
            fifo.r_en.eq(pops),
        ]
        return m
