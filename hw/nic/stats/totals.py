# SPDX-License-Identifier: BSD-2-Clause
"""The counters themselves: 64 bits in memory, to which a sweep adds what events added up to."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

COUNTER_BITS = 64
_LOW_BITS = 32
_SPACING = 5  #: steps after which a total can be read again: it takes that long to be written


@dataclass(frozen=True)
class Step:
    """A sum that is added to a total: entry ``entry`` of source ``source``, to total ``row``."""

    source: int
    entry: int
    row: int


class Totals(wiring.Component):
    """Totals of sums that are collected, one step a cycle, over and over, and a copy of all for readers.

    The last step of a sweep is in the cycle of ``exchange``; the first of the next, two cycles later. All totals are
    zero after a reset.

    A snapshot is taken by the first sweep that begins after it: it copies each total as it writes it. So the copy shows
    all totals as of one exchange, and ``busy`` is high for at most 2 ``period`` + 5 cycles.

    Parameters
    ----------
    steps : of one sweep; those of one row are at least 5 apart, also from one sweep to the next
    rows : how many totals there is room for
    amount_width : bits of a sum, 1..32

    Ports
    -----
    exchange : Out
        Sums of what happened up to this cycle are collected next.
    entry : Out
        Entry of the step.
    sources : Out, amount : In
        One cycle after ``entry``: the bit of the step's source, whose sum is due in the same cycle.
    snapshot : In
        For one cycle: take a copy. Ignored while ``busy``.
    busy : Out
        From the cycle after ``snapshot`` until the copy is complete: in the cycle after its fall, ``value`` is of it.
    read_row : In, value : Out
        A total at the last snapshot (zero before the first), two cycles after its row.
    """

    def __init__(self, steps: Sequence[Step], *, rows: int, amount_width: int):
        if not 1 <= amount_width <= _LOW_BITS:
            raise ValueError(f"A sum must have 1..{_LOW_BITS} bits, not {amount_width!r}")
        for place, step in enumerate(steps):
            if not 0 <= step.row < rows:
                raise ValueError(f"Row must be in 0..{rows - 1}, not {step.row!r}")
            following = [*steps[place + 1 :], None, *steps[: place + 1]][: _SPACING - 1]
            if any(later and later.row == step.row for later in following):
                raise ValueError(f"Steps of row {step.row!r} must be {_SPACING} apart")
        self._steps = steps
        self._source = range(max(step.source for step in steps) + 1)
        super().__init__(
            {
                "exchange": Out(1),
                "entry": Out(range(max(step.entry for step in steps) + 1)),
                "sources": Out(len(self._source)),
                "amount": In(amount_width),
                "snapshot": In(1),
                "busy": Out(1),
                "read_row": In(range(rows)),
                "value": Out(COUNTER_BITS),
            }
        )

    @property
    def period(self) -> int:
        """Cycles from one exchange to the next."""
        return len(self._steps) + 1

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = range(1 << len(self.read_row))
        m.submodules.totals = totals = Memory(shape=COUNTER_BITS, depth=len(rows), init=[])
        m.submodules.copies = copies = Memory(shape=COUNTER_BITS, depth=len(rows), init=[])
        read, write = totals.read_port(), totals.write_port()
        copy_read, copy_write = copies.read_port(), copies.write_port()
        now = self._sequence(m)

        copying, first = Signal(), Signal(init=1)
        with m.If(now.last):
            m.d.sync += [copying.eq(self.busy & ~copying), first.eq(0)]

        # What goes with a step until its total is written, by cycles since its entry was given.
        passing = data.StructLayout({"row": rows, "adds": 1, "opens": 1, "copies": 1, "last": 1})
        steps = [Signal(passing, name=f"step_{cycle}") for cycle in range(5)]
        m.d.comb += [
            steps[0].row.eq(now.row),
            steps[0].adds.eq(now.adds),
            steps[0].opens.eq(now.opens & first),
            steps[0].copies.eq(now.adds & copying),
            steps[0].last.eq(now.last & copying),
        ]
        m.d.sync += [later.eq(step) for step, later in pairwise(steps)]

        # Block RAM takes so long that nothing but a register can follow it within its cycle, not even a reset.
        total, copy = Signal(COUNTER_BITS, reset_less=True), Signal(COUNTER_BITS, reset_less=True)
        amount = Signal.like(self.amount)
        low, high = Signal(_LOW_BITS + 1), Signal(COUNTER_BITS - _LOW_BITS)
        sum_ = Signal(COUNTER_BITS, reset_less=True)
        known = Mux(steps[2].opens, 0, total)
        m.d.comb += read.addr.eq(now.row)
        m.d.sync += [
            total.eq(read.data),
            amount.eq(self.amount),
            low.eq(known[:_LOW_BITS] + amount),
            high.eq(known[_LOW_BITS:]),
        ]
        # A cycle for the way to the memories, which lie where there is room for them.
        m.d.sync += sum_.eq(Cat(low[:_LOW_BITS], high + low[-1]))
        for port in (write, copy_write):
            m.d.comb += [port.addr.eq(steps[4].row), port.data.eq(sum_)]
        # No row is read in the cycle in which it is written. Said so that it can be seen, as block RAM would otherwise
        # get a bypass.
        m.d.comb += [
            write.en.eq(steps[4].adds & (write.addr != read.addr)),
            copy_write.en.eq(steps[4].copies),
            copy_read.en.eq(~copy_write.en),
        ]

        complete, taken = Signal(), Signal()
        m.d.sync += complete.eq(steps[4].last)
        with m.If(complete):
            m.d.sync += [self.busy.eq(0), taken.eq(1)]
        with m.Elif(self.snapshot):
            m.d.sync += self.busy.eq(1)
        m.d.sync += copy.eq(copy_read.data)
        m.d.comb += [copy_read.addr.eq(self.read_row), self.value.eq(Mux(taken, copy, 0))]
        return m

    def _sequence(self, m: Module) -> data.View:
        """The step of this cycle, and between sweeps none."""
        layout = data.StructLayout(
            {
                "source": self._source,
                "entry": self.entry.shape(),
                "row": self.read_row.shape(),
                "adds": 1,
                "opens": 1,
                "last": 1,
            }
        )
        table, opened = [], set()
        for step in self._steps:
            opens = step.row not in opened
            table.append({"source": step.source, "entry": step.entry, "row": step.row, "adds": 1, "opens": opens})
            opened.add(step.row)
        table[-1]["last"] = 1
        m.submodules.sequence = sequence = Memory(shape=layout, depth=self.period, init=table)
        place, now = Signal(range(self.period)), Signal(layout)
        read = sequence.read_port(domain="comb")
        m.d.comb += [read.addr.eq(place), self.exchange.eq(now.last), self.entry.eq(now.entry)]
        m.d.sync += [
            place.eq(Mux(place == self.period - 1, 0, place + 1)),
            now.eq(read.data),
            self.sources.eq(Const(1, len(self._source)) << now.source),
        ]
        return now
