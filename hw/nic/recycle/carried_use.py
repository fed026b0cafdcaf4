# SPDX-License-Identifier: BSD-2-Clause
"""Transfers whose buffer carries its translation go out translated."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import AddressType
from hw.bus.axi4 import PAGE_BYTES
from hw.bus.fifo import StreamFifo
from hw.config import NicConfig
from hw.nic.interfaces import Command
from hw.nic.recycle.interfaces import BufferName
from hw.nic.rx.pipeline import delay

LOOKUP_CYCLES = 2  #: from a buffer's name to what it carries
_FIFO = 8
_MOST = 1 << 12  #: more commands than can be under way in any NIC
PAGE_BITS = PAGE_BYTES.bit_length() - 1


class Carried(data.Struct):
    """What a buffer carries: that accesses to the 4 KiB of IOVAs numbered ``page``, as far as they are allowed, go to
    the physical page ``frame``."""

    page: 64 - PAGE_BITS
    frame: 64 - PAGE_BITS
    read: 1
    write: 1
    valid: 1


class CarriedWant(wiring.Signature):
    """A buffer was used for ``queue`` that carries no translation of ``page``, and might: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        queue = range(config.queues)
        super().__init__(
            {
                "strobe": Out(1),
                "queue": Out(queue),
                "buffer": Out(BufferName(config)),
                "page": Out(64 - PAGE_BITS),
            }
        )


class CarriedUse(wiring.Component):
    """Replace the address of each command, where its buffer carries a translation that covers all of it.

    A command comes out five cycles after it went in, one a cycle, in order. Others than those of pools' buffers, those
    that touch two pages, and those of buffers that carry another page or lack the permission, go out as they came.

    ``mark`` asks when nothing that was looked up before is under way any more: ``drained`` is low from the next cycle
    until all commands that had gone in are ``finished``.

    Parameters
    ----------
    config : NicConfig
    write : the transfers write memory; otherwise they read it

    Members
    -------
    input, output : streams of :class:`hw.nic.interfaces.Command`; a ``named`` one's pool exists
    finished : one of the commands is over, in order: memory has answered all of it
    buffer, carried : what a buffer carries is looked up; it is there :data:`LOOKUP_CYCLES` later
    usable : translations may be used: those of lookups since which it has always been high
    want : a buffer was used that carried nothing of use
    mark, drained : see above
    """

    def __init__(self, config: NicConfig, *, write: bool):
        self._config = config
        self._write = write
        super().__init__(
            {
                "input": In(stream.Signature(Command(config))),
                "output": Out(stream.Signature(Command(config))),
                "finished": In(1),
                "buffer": Out(BufferName(config)),
                "carried": In(Carried),
                "usable": In(1),
                "want": Out(CarriedWant(config)),
                "mark": In(1),
                "drained": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.fifo = fifo = StreamFifo(Command(config), _FIFO)
        connect(m, fifo.output, flipped(self.output))
        taken, left = Signal(), Signal()
        waiting, room = Signal(range(_FIFO + 1)), Signal(init=1)
        given, buffer = self.input.payload, Signal(BufferName(config))
        m.d.comb += [
            self.input.ready.eq(room),
            taken.eq(self.input.valid & self.input.ready),
            left.eq(self.output.valid & self.output.ready),
            buffer.pool.eq(given.pool),
            buffer.id.eq(given.buffer_id),
            self.buffer.eq(buffer),
        ]
        m.d.sync += [
            waiting.eq(waiting + taken - left),
            room.eq(waiting + taken < _FIFO - 1),
        ]

        start, count = given.address[:PAGE_BITS], given.length
        last = Signal(17)
        m.d.comb += last.eq(start + count - 1)
        looked = delay(m, "looked", 1, taken, command=given, named=given.named, buffer=buffer, end=last)
        known = delay(
            m,
            "known",
            LOOKUP_CYCLES - 1,
            looked.valid,
            command=looked.command,
            named=looked.named & (looked.end[PAGE_BITS:] == 0),
            buffer=looked.buffer,
        )
        page = known.command.address[PAGE_BITS:]
        judged = delay(
            m,
            "judged",
            1,
            known.valid,
            command=known.command,
            named=known.named,
            buffer=known.buffer,
            frame=self.carried.frame,
            fits=known.named
            & self.carried.valid
            & (self.carried.page == page)
            & (self.carried.write if self._write else self.carried.read),
        )
        # What was looked up while others forgot may be what they forgot a cycle later.
        before = Signal(LOOKUP_CYCLES + 1)
        usable = Signal()
        m.d.sync += before.eq(Cat(self.usable, before))
        m.d.comb += usable.eq(self.usable & before.all())
        carries = judged.fits & usable
        command = fifo.input.payload
        m.d.comb += [
            fifo.input.valid.eq(judged.valid),
            command.eq(judged.command),
            command.address[PAGE_BITS:].eq(Mux(carries, judged.frame, judged.command.address[PAGE_BITS:])),
            command.address_type.eq(Mux(carries, AddressType.TRANSLATED, AddressType.UNTRANSLATED)),
            self.want.strobe.eq(judged.valid & judged.named & ~judged.fits & usable),
            self.want.queue.eq(judged.command.queue),
            self.want.buffer.eq(judged.buffer),
            self.want.page.eq(judged.command.address[PAGE_BITS:]),
        ]
        self._drain(m, taken)
        return m

    def _drain(self, m: Module, taken: Signal) -> None:
        """Count what is under way, and what of it was when it was asked for."""
        most = range(_MOST)
        under_way, behind = Signal(most), Signal(most)
        m.d.sync += under_way.eq(under_way + taken - self.finished)
        with m.If(self.mark):
            m.d.sync += [behind.eq(under_way + taken - self.finished), self.drained.eq(0)]
        with m.Else():
            m.d.sync += [
                behind.eq(behind - (self.finished & (behind != 0))),
                self.drained.eq(self.drained | (behind == 0)),
            ]
