# SPDX-License-Identifier: BSD-2-Clause
"""The translations that buffers carry, and their end."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.recycle.carried_use import PAGE_BITS, Carried
from hw.nic.recycle.interfaces import BufferName
from hw.nic.recycle.pool_table import place


class CarriedWrite(wiring.Signature):
    """A buffer carries a translation from now on: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "buffer": Out(BufferName(config)), "carried": Out(Carried)})


class PageRange(data.Struct):
    """Pages whose number is ``page`` but for the bits of ``mask``."""

    page: 64 - PAGE_BITS
    mask: 64 - PAGE_BITS


class CarriedTable(wiring.Component):
    """What each buffer of each pool carries, looked up by two who use it.

    ``forget`` makes all buffers forget a translation of one of ``pages``: it takes a cycle for each buffer and some
    more, in which ``forgetting`` is high, nothing must be used that is looked up, and ``write`` is ignored. Another
    ``forget`` meanwhile begins anew, and makes them forget everything. After a reset ``forgetting`` is high until all
    have.

    ``elsewhere`` says at once that no buffer has carried one of ``pages`` since everything was forgotten last: two
    cycles after they are there.

    Members
    -------
    buffers, carried : to be looked up, one a cycle each; two cycles later
    write : counts for buffers that are looked up in the same cycle, and from then on
    pages, forget, forgetting, elsewhere : see above
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "buffers": In(BufferName(config)).array(2),
                "carried": Out(Carried).array(2),
                "write": In(CarriedWrite(config)),
                "pages": In(PageRange),
                "forget": In(1),
                "forgetting": Out(1, init=1),
                "elsewhere": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._config.pools * self._config.pool_buffers
        known = data.StructLayout({name: field.shape for name, field in data.Layout.cast(Carried) if name != "valid"})
        m.submodules.entries = entries = memory.Memory(shape=known, depth=depth, init=[])
        m.submodules.flags = flags = memory.Memory(shape=1, depth=depth, init=[])
        write, flag = entries.write_port(), flags.write_port()
        accepts = Signal()
        m.d.comb += [
            accepts.eq(self.write.strobe & ~self.forgetting),
            write.en.eq(accepts),
            write.addr.eq(place(self.write.buffer)),
            *(write.data[name].eq(self.write.carried[name]) for name, _ in known),
        ]
        looked_at, all_ = Signal(range(depth)), Signal(init=1)  # next to be looked at; everything is to be forgotten
        for number, (buffer, carried) in enumerate(zip(self.buffers, self.carried, strict=True)):
            read, valid = entries.read_port(transparent_for=[write]), flags.read_port(transparent_for=[flag])
            where = Mux(self.forgetting, looked_at, place(buffer)) if number == 0 else place(buffer)
            m.d.comb += [read.addr.eq(where), valid.addr.eq(where)]
            m.d.sync += [
                carried.valid.eq(valid.data),
                *(carried[name].eq(read.data[name]) for name, _ in known),
            ]
        all_gone = self._forget(m, looked_at, all_, flag, accepts)
        self._remember(m, accepts, all_gone)
        return m

    def _forget(self, m: Module, looked_at: Signal, all_: Signal, flag: Any, accepts: Signal) -> Signal:
        """Look at one buffer after the other, and clear those that are to forget; whether now all have."""
        depth = self._config.pools * self._config.pool_buffers
        range_ = Signal(PageRange)
        going, ends, over, all_gone = Signal(init=1), Signal(), Signal(), Signal()
        stages = [Signal(data.StructLayout({"valid": 1, "place": range(depth)}), name=f"scan_{i}") for i in range(2)]
        last = stages[-1]
        m.d.comb += [
            ends.eq(looked_at == depth - 1),
            over.eq(self.forgetting & ~going & ~stages[0].valid & ~last.valid & ~self.forget),
            all_gone.eq(over & all_),
            flag.en.eq(accepts | (last.valid & (all_ | _within(self.carried[0].page, range_)))),
            flag.addr.eq(Mux(self.forgetting, last.place, place(self.write.buffer))),
            flag.data.eq(~self.forgetting),
        ]
        m.d.sync += [stages[0].valid.eq(going), stages[0].place.eq(looked_at), last.eq(stages[0])]
        with m.If(self.forget):
            m.d.sync += [
                all_.eq(self.pages.mask.all() | self.forgetting),
                range_.eq(self.pages),
                looked_at.eq(0),
                going.eq(1),
                self.forgetting.eq(1),
            ]
        with m.Elif(going):
            m.d.sync += [looked_at.eq(Mux(ends, 0, looked_at + 1)), going.eq(~ends)]
        with m.If(over):
            m.d.sync += self.forgetting.eq(0)
        return all_gone

    def _remember(self, m: Module, accepts: Signal, all_gone: Signal) -> None:
        """The lowest and the highest page that any buffer has carried."""
        page = range(1 << (64 - PAGE_BITS))
        lowest, highest, first, last = (Signal(page, name=n) for n in ("lowest", "highest", "first", "last"))
        some, new, begins = Signal(), Signal(page), Signal()
        m.d.sync += [
            new.eq(self.write.carried.page),
            begins.eq(accepts),
            first.eq(self.pages.page & ~self.pages.mask),
            last.eq(self.pages.page | self.pages.mask),
            self.elsewhere.eq(~accepts & ~begins & (~some | (last < lowest) | (first > highest))),
        ]
        with m.If(all_gone):
            m.d.sync += some.eq(0)
        with m.If(begins):
            m.d.sync += some.eq(1)
            with m.If(~some | (new < lowest)):
                m.d.sync += lowest.eq(new)
            with m.If(~some | (new > highest)):
                m.d.sync += highest.eq(new)


def _within(page: Value, pages: Any) -> Value:
    return ((page ^ pages.page) & ~pages.mask) == 0
