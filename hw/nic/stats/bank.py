# SPDX-License-Identifier: BSD-2-Clause
"""A bank of small sums over which events add up until they are collected."""

from collections.abc import Mapping

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for


class AccumulatorBank(wiring.Component):
    """Sums of one kind of event, in two halves: one takes events while the other is collected.

    Each entry has one sum for each amount of the events, in one word. Takes one event a cycle, every cycle, whatever
    their entries, and loses none. ``exchange`` changes the halves over: the event of that cycle still belongs to the
    half that is then to be collected, which can be asked for from the second cycle after; the other half starts at
    zero. An entry without an event since its half began is known by a cleared flag, so nothing has to be cleared entry
    by entry, nor after a reset.

    Parameters
    ----------
    entries : how many, at least 1
    fields : name and bits of each amount of an event
    cycles : most cycles from one exchange to the next; the sums are as wide as that takes

    Ports
    -----
    strobe, entry, amounts : In
        Add the amounts to the sums of ``entry``.
    exchange : In
        For one cycle.
    collect_entry : In, sums : Out
        An entry's sums at the last exchange, one cycle after its number.
    """

    def __init__(self, entries: int, fields: Mapping[str, int], *, cycles: int):
        if not isinstance(entries, int) or entries < 1:
            raise ValueError(f"A bank must have a positive number of entries, not {entries!r}")
        if not isinstance(cycles, int) or cycles < 1:
            raise ValueError(f"There must be a positive number of cycles between exchanges, not {cycles!r}")
        self._entries = entries
        self._sums = data.StructLayout({name: bits_for(cycles * ((1 << bits) - 1)) for name, bits in fields.items()})
        super().__init__(
            {
                "strobe": In(1),
                "entry": In(range(entries)),
                "amounts": In(data.StructLayout(fields)),
                "exchange": In(1),
                "collect_entry": In(range(entries)),
                "sums": Out(self._sums),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = 2 << len(self.entry)
        m.submodules.memory = memory = Memory(shape=self._sums, depth=rows, init=[])
        write, read, collect = memory.write_port(), memory.read_port(), memory.read_port()
        half = Signal()
        touched = Signal(rows)  # since its half began: what the memory holds in other rows is past
        m.d.sync += half.eq(half ^ self.exchange)

        # An event reads in one cycle, adds and writes in the next. The event behind it has read too early for that sum.
        row, update = Signal(range(rows)), Signal()
        amounts = Signal.like(self.amounts)
        known, repeats = Signal(), Signal()
        sums = Signal(self._sums)
        m.d.comb += [
            read.addr.eq((half << len(self.entry)) | self.entry),
            write.addr.eq(row),
            write.en.eq(update),
        ]
        m.d.sync += [
            row.eq(read.addr),
            update.eq(self.strobe),
            amounts.eq(self.amounts),
            known.eq(touched.bit_select(read.addr, 1)),
            repeats.eq(update & (row == read.addr)),
            sums.eq(write.data),
        ]
        for name, _ in self._sums:
            earlier = Mux(repeats, sums[name], Mux(known, read.data[name], 0))
            m.d.comb += write.data[name].eq(earlier + amounts[name])

        lower = Const((1 << rows // 2) - 1, rows)
        begun = Mux(self.exchange, Mux(half, lower, ~lower), 0)
        m.d.sync += touched.eq((touched | (update << row)) & ~begun)

        collected = Signal()
        m.d.comb += [
            collect.addr.eq((~half << len(self.entry)) | self.collect_entry),
            self.sums.eq(Mux(collected, collect.data, 0)),
        ]
        m.d.sync += collected.eq(touched.bit_select(collect.addr, 1))
        return m
