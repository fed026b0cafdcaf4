# SPDX-License-Identifier: BSD-2-Clause
"""What the NIC asks the IOMMU: translations to be carried, and to be cached ahead of their use."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.iommu import TranslationCompletion
from hw.abi.rings import AddressType
from hw.bus.fifo import StreamFifo
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import Command, ReadPort
from hw.nic.recycle.carried_table import CarriedWrite
from hw.nic.recycle.carried_use import PAGE_BITS, CarriedWant
from hw.nic.recycle.interfaces import BufferName

_WAITING = 8  #: pages to be asked for; more are not asked for
_UNDER_WAY = 16
_BYTES = 8  #: of an answer


class PrefetchWant(wiring.Signature):
    """A queue will soon access ``address``: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues)), "address": Out(64)})


class TranslationRequests(wiring.Component):
    """Ask for translations, and have buffers carry those that come.

    Both are hints: what comes while eight of its kind wait to be asked is not asked for. Translation requests go before
    prefetches; up to 16 reads are under way, one word each.

    An answer that came in time is written: not one to a request from before ``stale``. An error, as an IOMMU gives to a
    device that may not ask, sets ``refused``, and nothing is asked any more until ``retry``; prefetches go on.

    Members
    -------
    wants : of those who use translations
    prefetches : of who knows of buffers before they are used
    read : to the DMA reader
    write : a buffer carries a translation
    stale : requests under way may be answered by a translation that is no more
    refused, retry : see above
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "wants": In(CarriedWant(config)).array(2),
                "prefetches": In(PrefetchWant(config)),
                "read": Out(ReadPort(config)),
                "write": Out(CarriedWrite(config)),
                "stale": In(1),
                "refused": Out(1),
                "retry": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        page = 64 - PAGE_BITS
        queue = range(config.queues)
        want = data.StructLayout({"queue": queue, "buffer": BufferName(config), "page": page})
        m.submodules.wanted = wanted = StreamFifo(want, _WAITING)
        m.submodules.ahead = ahead = StreamFifo(data.StructLayout({"queue": queue, "page": page}), _WAITING)
        second = Signal(want)  # where both users want one in one cycle
        late = Signal()
        first = self.wants[0]
        m.d.sync += [
            late.eq(self.wants[1].strobe & first.strobe),
            *(second[name].eq(getattr(self.wants[1], name)) for name, _ in want),
        ]
        m.d.comb += [
            wanted.input.valid.eq((first.strobe | self.wants[1].strobe | late) & ~self.refused),
            wanted.input.payload.eq(second),
            ahead.input.valid.eq(self.prefetches.strobe),
            ahead.input.payload.queue.eq(self.prefetches.queue),
            ahead.input.payload.page.eq(self.prefetches.address[PAGE_BITS:]),
        ]
        for user in (self.wants[1], first):
            with m.If(user.strobe):
                m.d.comb += [wanted.input.payload[name].eq(getattr(user, name)) for name, _ in want]

        # Of each read under way: whose it is, if its answer counts.
        asked = data.StructLayout({"counts": 1, "buffer": BufferName(config), "page": page})
        m.submodules.under_way = under_way = SyncFIFO(width=asked.size, depth=_UNDER_WAY)
        m.submodules.commands = commands = SkidBuffer(Command(config))
        connect(m, commands.output, flipped(self.read.command))
        command, entry = commands.input, Signal(asked)
        asks, takes = Signal(), Signal()
        m.d.comb += [
            asks.eq(wanted.output.valid),
            command.valid.eq((asks | ahead.output.valid) & under_way.w_rdy),
            takes.eq(command.ready & under_way.w_rdy),
            command.payload.length.eq(_BYTES),
            command.payload.address[PAGE_BITS:].eq(Mux(asks, wanted.output.payload.page, ahead.output.payload.page)),
            command.payload.queue.eq(Mux(asks, wanted.output.payload.queue, ahead.output.payload.queue)),
            command.payload.address_type.eq(Mux(asks, AddressType.TRANSLATION_REQUEST, AddressType.PREFETCH)),
            entry.counts.eq(asks),
            entry.buffer.eq(wanted.output.payload.buffer),
            entry.page.eq(wanted.output.payload.page),
            under_way.w_en.eq(command.valid & command.ready),
            under_way.w_data.eq(entry),
            ahead.output.ready.eq(takes & ~asks),
            wanted.output.ready.eq(takes),
        ]
        self._answer(m, data.View(asked, under_way.r_data), under_way)
        return m

    def _answer(self, m: Module, asked: data.View, under_way: SyncFIFO) -> None:
        """Write what came, unless it may be old."""
        beat = self.read.data
        answer = Signal(TranslationCompletion)
        old = Signal(range(_UNDER_WAY + 1))  # answers to come that do not count
        mask, page = Signal.like(answer.page), Signal.like(asked.page)
        carried = self.write.carried
        m.d.comb += [
            beat.ready.eq(1),
            under_way.r_en.eq(beat.valid),
            answer.eq(beat.payload.data),
            # Of a page larger than 4 KiB the number ends in a 0 and ones, as many as it is larger.
            mask.eq(Mux(answer.s, answer.page ^ (answer.page + 1), 0)),
            page.eq((answer.page & ~mask) | (asked.page & mask)),
        ]
        m.d.sync += [
            self.write.strobe.eq(
                beat.valid
                & asked.counts
                & (old == 0)
                & ~self.stale
                & ~beat.payload.error
                & ~answer.u
                & (answer.r | answer.w)
            ),
            self.write.buffer.eq(asked.buffer),
            carried.page.eq(asked.page),
            carried.frame.eq(page),
            carried.read.eq(answer.r),
            carried.write.eq(answer.w),
            carried.valid.eq(1),
        ]
        with m.If(self.stale):
            m.d.sync += old.eq(under_way.level + under_way.w_en - beat.valid)
        with m.Elif(beat.valid & (old != 0)):
            m.d.sync += old.eq(old - 1)
        with m.If(self.retry):
            m.d.sync += self.refused.eq(0)
        with m.Elif(beat.valid & asked.counts & beat.payload.error):
            m.d.sync += self.refused.eq(1)
