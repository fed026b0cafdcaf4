# SPDX-License-Identifier: BSD-2-Clause
"""A bank of counters in memory: at most one of them moves in a cycle."""

from amaranth import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

COUNTER_BITS = 64


class CounterBank(wiring.Component):
    """Counters of events that exclude each other, with an atomic copy for readers.

    Takes one update a cycle, every cycle, and loses none. All counters are zero after reset: a counter that was never
    updated since is known by a cleared flag, so no sweep delays the first event.

    A snapshot copies every counter *as of one cycle*: updates before the cycle of ``snapshot`` are in it, those of that
    cycle and later are not. A sweep goes through the bank, one counter a cycle; an update that comes to a counter
    before the sweep did copies the old value in passing, and the sweep stands still for it. So updates never wait, and
    a snapshot takes at most twice ``counters`` cycles, whatever the load.

    Parameters
    ----------
    counters : how many, at least 1
    amount_width : bits of an update's amount, 1..64

    Ports
    -----
    strobe, index, amount : In
        Add ``amount`` to counter ``index``.
    snapshot : In
        For one cycle: take a copy. Ignored while ``busy``.
    busy : Out
        A snapshot is being taken; the copy is a mixture until it falls.
    copy_index : In, copy : Out
        Value of a counter at the last snapshot (zero before the first), one cycle after its index.
    """

    def __init__(self, counters: int, amount_width: int = 1):
        if not isinstance(counters, int) or counters < 1:
            raise ValueError(f"A bank must have a positive number of counters, not {counters!r}")
        if not isinstance(amount_width, int) or not 1 <= amount_width <= COUNTER_BITS:
            raise ValueError(f"Amount width must be in 1..{COUNTER_BITS} bits, not {amount_width!r}")
        self._counters = counters
        super().__init__(
            {
                "strobe": In(1),
                "index": In(range(counters)),
                "amount": In(amount_width),
                "snapshot": In(1),
                "busy": Out(1),
                "copy_index": In(range(counters)),
                "copy": Out(COUNTER_BITS),
            }
        )

    @property
    def counters(self) -> int:
        """Number of counters."""
        return self._counters

    def elaborate(self, platform):
        m = Module()
        counters = self._counters
        m.submodules.live = live = Memory(shape=COUNTER_BITS, depth=counters, init=[])
        m.submodules.copies = copies = Memory(shape=COUNTER_BITS, depth=counters, init=[])
        write = live.write_port()
        read = live.read_port(transparent_for=[write])
        sweep_read = live.read_port(transparent_for=[write])
        copy_write = copies.write_port()
        copy_read = copies.read_port()

        written = Signal(counters)
        copied = Signal(counters)
        taken = Signal()

        # Stage 1 reads, stage 2 adds and writes back.
        index = Signal(range(counters))
        amount = Signal.like(self.amount)
        update = Signal()
        select = Signal(counters)
        value = Signal(COUNTER_BITS)
        m.d.comb += [
            read.en.eq(self.strobe),
            read.addr.eq(self.index),
            select.eq(Const(1, counters) << index),
            value.eq(Mux((written & select).any(), read.data, 0)),
            write.addr.eq(index),
            write.data.eq(value + amount),
            write.en.eq(update),
        ]
        m.d.sync += [index.eq(self.index), amount.eq(self.amount), update.eq(self.strobe)]
        with m.If(update):
            m.d.sync += written.eq(written | select)

        # The copy takes the value before an update if that is the first to come by, else what the sweep has read.
        sweep = Signal(range(counters))
        sweep_select = Signal(counters)
        passing, advance = Signal(), Signal()
        m.d.comb += [
            passing.eq(self.busy & update & ~(copied & select).any()),
            sweep_select.eq(Const(1, counters) << sweep),
            advance.eq(self.busy & ~passing),
            sweep_read.en.eq(self.busy | self.snapshot),
            sweep_read.addr.eq(Mux(self.busy, sweep + advance, 0)),
            copy_write.addr.eq(Mux(passing, index, sweep)),
            copy_write.data.eq(Mux(passing, value, Mux((written & sweep_select).any(), sweep_read.data, 0))),
            copy_write.en.eq(passing | (advance & ~(copied & sweep_select).any())),
        ]
        with m.If(copy_write.en):
            m.d.sync += copied.eq(copied | Mux(passing, select, sweep_select))
        with m.If(self.snapshot & ~self.busy):
            m.d.sync += [self.busy.eq(1), sweep.eq(0), copied.eq(0), taken.eq(1)]
        with m.Elif(advance):
            m.d.sync += sweep.eq(sweep + 1)
            with m.If(sweep == counters - 1):
                m.d.sync += self.busy.eq(0)

        m.d.comb += [copy_read.addr.eq(self.copy_index), self.copy.eq(Mux(taken, copy_read.data, 0))]
        return m
