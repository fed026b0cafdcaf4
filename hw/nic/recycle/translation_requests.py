# SPDX-License-Identifier: BSD-2-Clause
"""What the NIC asks the IOMMU: translations to be carried, and to be cached ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.iommu import NO_WRITE, TranslationCompletion
from hw.abi.rings import AddressType
from hw.bus.fifo import StreamFifo
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.in_flight import InFlight
from hw.nic.interfaces import Command, QueueControl, ReadPort
from hw.nic.recycle.carried_table import CarriedWrite
from hw.nic.recycle.carried_use import PAGE_BITS, CarriedWant
from hw.nic.recycle.interfaces import BufferName

_WAITING = 16  #: pages of each kind to be asked for; more are not asked for
_UNDER_WAY = 64
_BYTES = 8  #: of an answer


class PrefetchWant(wiring.Signature):
    """A queue will soon access ``address``: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues)), "address": Out(64)})


class TranslationRequests(wiring.Component):
    """Ask for translations, and have buffers carry those that come.

    Both are hints: what comes while 16 of its kind wait to be asked is not asked for. Translation requests go before
    prefetches, which take turns; up to 64 reads are under way, one word each.

    An answer that came in time is written: not one to a request from before ``stale``. An error, as an IOMMU gives to a
    device that may not ask, sets ``refused``, and nothing is asked any more until ``retry``; prefetches go on. Answers
    to requests from before ``stale`` or ``retry`` count for nothing, be they errors.

    **Stopping.** Nothing is asked for a direction of a queue that is not enabled. One is ``busy`` while an answer to
    its requests is to come.

    Members
    -------
    controls : of RX, whose buffers are written, and of TX, whose are read; likewise the wants and prefetches
    wants : of those who use translations
    prefetches : of those who know of buffers before they are used
    read : to the DMA reader
    write : a buffer carries a translation
    stale : requests under way may be answered by a translation that is no more
    refused, retry : see above
    idle : nothing waits or is under way
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "controls": In(QueueControl(config)).array(2),
                "wants": In(CarriedWant(config)).array(2),
                "prefetches": In(PrefetchWant(config)).array(2),
                "read": Out(ReadPort(config)),
                "write": Out(CarriedWrite(config)),
                "stale": In(1),
                "refused": Out(1),
                "retry": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        want = data.StructLayout({"queue": range(config.queues), "buffer": BufferName(config), "page": 64 - PAGE_BITS})
        kinds = [*self.wants, *self.prefetches]
        waiting = []
        for number, kind in enumerate(kinds):
            fifo = StreamFifo(want, _WAITING)
            m.submodules[f"waiting_{number}"] = fifo
            waiting.append(fifo)
            m.d.comb += [
                fifo.input.valid.eq(kind.strobe),
                fifo.input.payload.queue.eq(kind.queue),
                fifo.input.payload.page.eq(kind.page if number < len(self.wants) else kind.address[PAGE_BITS:]),
            ]
            if number < len(self.wants):
                m.d.comb += fifo.input.payload.buffer.eq(kind.buffer)
        self._ask(m, waiting, want)
        return m

    def _ask(self, m: Module, waiting: list[StreamFifo], want: data.StructLayout) -> None:
        """A read for each that waits, as long as its queue is enabled."""
        config = self._config
        asked = data.StructLayout({"counts": 1, "direction": 1, "want": want})
        m.submodules.under_way = under_way = SyncFIFO(width=asked.size, depth=_UNDER_WAY)
        m.submodules.commands = commands = SkidBuffer(Command(config))
        m.submodules.arbiter = arbiter = RoundRobin(len(waiting))
        connect(m, commands.output, flipped(self.read.command))
        command, entry, chosen = commands.input, Signal(asked), Signal(want)
        translates, live, goes, moves = (Signal(name=n) for n in ("translates", "live", "goes", "moves"))
        direction, enabled = Signal(), Signal()
        some = [fifo.output.valid for fifo in waiting]
        first = Cat(some[: len(self.wants)]).any()
        for number, fifo in enumerate(waiting):
            with m.If(arbiter.grant == number):
                m.d.comb += chosen.eq(fifo.output.payload)
            m.d.comb += [
                arbiter.requests[number].eq(some[number] & (number < len(self.wants) or ~first)),
                fifo.output.ready.eq(arbiter.valid & moves & (arbiter.grant == number)),
            ]
        m.d.comb += [
            arbiter.taken.eq(moves),
            translates.eq(arbiter.grant < len(self.wants)),
            direction.eq(arbiter.grant[0]),
            enabled.eq(
                Mux(direction, *(control.enable.bit_select(chosen.queue, 1) for control in self.controls[::-1]))
            ),
            # What is not to be asked any more goes nowhere.
            live.eq(enabled & ~(translates & self.refused)),
            goes.eq(arbiter.valid & live & under_way.w_rdy),
            moves.eq(~live | (under_way.w_rdy & command.ready)),
            command.valid.eq(goes),
            command.payload.length.eq(_BYTES),
            command.payload.address[PAGE_BITS:].eq(chosen.page),
            command.payload.address[NO_WRITE].eq(arbiter.grant == len(waiting) - 1),
            command.payload.queue.eq(chosen.queue),
            command.payload.address_type.eq(Mux(translates, AddressType.TRANSLATION_REQUEST, AddressType.PREFETCH)),
            entry.counts.eq(translates),
            entry.direction.eq(direction),
            entry.want.eq(chosen),
            under_way.w_en.eq(goes & command.ready),
            under_way.w_data.eq(entry),
        ]
        of = data.View(asked, under_way.r_data)
        for number, control in enumerate(self.controls):
            m.submodules[f"in_flight_{number}"] = in_flight = InFlight(config.queues, _UNDER_WAY)
            m.d.comb += [
                in_flight.start.eq(under_way.w_en & (direction == number)),
                in_flight.start_queue.eq(chosen.queue),
                in_flight.start_count.eq(1),
                in_flight.finish.eq(self.read.data.valid & (of.direction == number)),
                in_flight.finish_queue.eq(of.want.queue),
                control.busy.eq(in_flight.busy),
            ]
        busy = Cat(control.busy for control in self.controls)
        m.d.comb += self.idle.eq(~Cat(some).any() & (under_way.level == 0) & ~busy.any())
        self._answer(m, of, under_way)

    def _answer(self, m: Module, asked: data.View, under_way: SyncFIFO) -> None:
        """Write what came, or learn that nothing will, unless it may be old."""
        beat, want = self.read.data, asked.want
        answer = Signal(TranslationCompletion)
        old = Signal(range(_UNDER_WAY + 1))  # answers to come that do not count
        mask, frame = Signal.like(answer.page), Signal.like(answer.page)
        carried, counts, anew = self.write.carried, Signal(), Signal()
        m.d.comb += [
            beat.ready.eq(1),
            under_way.r_en.eq(beat.valid),
            answer.eq(beat.payload.data),
            # Of a page larger than 4 KiB the number ends in a 0 and ones, as many as it is larger.
            mask.eq(Mux(answer.s, answer.page ^ (answer.page + 1), 0)),
            frame.eq((answer.page & ~mask) | (want.page & mask)),
            anew.eq(self.stale | self.retry),
            counts.eq(beat.valid & asked.counts & (old == 0) & ~anew),
        ]
        m.d.sync += [
            self.write.strobe.eq(counts & ~beat.payload.error & ~answer.u & (answer.r | answer.w)),
            self.write.buffer.eq(want.buffer),
            carried.page.eq(want.page),
            carried.frame.eq(frame),
            carried.read.eq(answer.r),
            carried.write.eq(answer.w),
            carried.valid.eq(1),
        ]
        with m.If(anew):
            m.d.sync += old.eq(under_way.level + under_way.w_en - beat.valid)
        with m.Elif(beat.valid & (old != 0)):
            m.d.sync += old.eq(old - 1)
        with m.If(self.retry):
            m.d.sync += self.refused.eq(0)
        with m.Elif(counts & beat.payload.error):
            m.d.sync += self.refused.eq(1)
