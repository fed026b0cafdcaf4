# SPDX-License-Identifier: BSD-2-Clause
"""Recycled buffers that carry their translation until it is invalidated."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.abi.registers import register_map
from hw.config import NicConfig
from hw.nic.interfaces import Command, QueueControl, QueueWrite, ReadPort
from hw.nic.recycle.carried_table import CarriedTable
from hw.nic.recycle.carried_use import CarriedUse
from hw.nic.recycle.translation_requests import PrefetchWant, TranslationRequests

_ELSEWHERE_CYCLES = 2  #: until the table knows


class CarriedTranslations(wiring.Component):
    """The NIC's side of address translation services, for the buffers of pools.

    ::

        writes, reads ─► use ─► writes_out, reads_out
                          │ ▲
                   wants  ▼ │ table ◄─ answers ─ requests ◄─► IOMMU
                      requests  ▲
        invalidate ─► forget ───┘ ─► invalidated

    A transfer to or from a buffer that carries no translation goes out untranslated, and has one asked for. From its
    answer on, transfers of that buffer's page go out as already translated, as far as its permission goes: IOMMU and
    IOTLB have nothing to do with them, and **who may access what rests on this block**, until an invalidation that
    covers the page comes.

    **Who asks.** A translation is the device's. Queues with a process neither use any nor ask for one, and when
    ``device_id`` changes all buffers forget all.

    **Invalidation.** From the fourth cycle after one is taken, no more transfers are translated, and buffers are looked
    through for those that must forget, a cycle each, while all transfers go out untranslated. It is acknowledged as
    soon as every transfer that had come before is over, and no answer to an earlier request will be used. One that
    covers no page that any buffer has carried is acknowledged four cycles after it was taken, and disturbs nothing. If
    another comes while buffers are looked through, all forget all: so invalidations between the lowest page that is
    carried and the highest that follow each other faster than buffers are looked through leave nothing carried.

    Members
    -------
    queue_write : listens to CONTEXT
    rx_control, tx_control : lifecycles of the queues, which are busy while requests for them are under way
    enable : translations may be carried; while it is low no more transfers are translated. Its rise ends ``refused``
    device_id : register DEVICE; must not change while transfers are under way
    refused : the IOMMU refused a request, and none is sent any more
    hold : no invalidation is taken
    idle : nothing is asked, and no invalidation that was taken waits for its acknowledgement
    writes, reads : streams of :class:`hw.nic.interfaces.Command`
    writes_out, reads_out : the same, as they go out
    written, have_read : a command of them is over, in order
    prefetches : pages to be brought into the IOTLB
    read : to the DMA reader
    invalidate, invalidated : messages from and to the IOMMU
    """

    def __init__(self, config: NicConfig):
        self._config = config
        command = stream.Signature(Command(config))
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "rx_control": In(QueueControl(config)),
                "tx_control": In(QueueControl(config)),
                "enable": In(1),
                "device_id": In(24),
                "refused": Out(1),
                "hold": In(1),
                "idle": Out(1),
                "writes": In(command),
                "writes_out": Out(command),
                "written": In(1),
                "reads": In(command),
                "reads_out": Out(command),
                "have_read": In(1),
                "prefetches": In(PrefetchWant(config)).array(2),
                "read": Out(ReadPort(config)),
                "invalidate": In(stream.Signature(InvalidationRequest)),
                "invalidated": Out(stream.Signature(InvalidationCompletion)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = CarriedTable(self._config)
        m.submodules.requests = requests = TranslationRequests(self._config)
        m.submodules.write_use = write_use = CarriedUse(self._config, write=True)
        m.submodules.read_use = read_use = CarriedUse(self._config, write=False)
        usable, enabled, renamed = Signal(), Signal(), Signal()
        process, context = Signal(self._config.queues), self.queue_write
        valid = register_map(self._config.queues).queue["context"].fields["process_id_valid"].lsb
        with m.If(context.at.context):
            m.d.sync += process.bit_select(context.queue, 1).eq(context.data[valid])
        connect(m, requests.read, flipped(self.read))
        for outer, inner in zip(self.prefetches, requests.prefetches, strict=True):
            connect(m, flipped(outer), inner)
        for outer, inner in zip((self.rx_control, self.tx_control), requests.controls, strict=True):
            connect(m, flipped(outer), inner)
        connect(m, requests.write, table.write)
        for number, (use, given, out, over) in enumerate(
            (
                (write_use, self.writes, self.writes_out, self.written),
                (read_use, self.reads, self.reads_out, self.have_read),
            )
        ):
            connect(m, flipped(given), use.input)
            # Others are those of no buffer.
            m.d.comb += use.input.payload.named.eq(
                given.payload.named & ~process.bit_select(given.payload.queue, 1),
            )
            connect(m, use.output, flipped(out))
            connect(m, use.want, requests.wants[number])
            m.d.comb += [
                use.finished.eq(over),
                use.usable.eq(usable),
                table.buffers[number].eq(use.buffer),
                use.carried.eq(table.carried[number]),
            ]
        m.d.sync += enabled.eq(self.enable)
        m.d.comb += [
            usable.eq(self.enable & ~table.forgetting & ~renamed),
            self.refused.eq(requests.refused),
            requests.retry.eq(self.enable & ~enabled),
        ]
        self._invalidate(m, table, requests, (write_use, read_use), renamed)
        return m

    def _invalidate(
        self,
        m: Module,
        table: CarriedTable,
        requests: TranslationRequests,
        uses: tuple[CarriedUse, ...],
        renamed: Signal,
    ) -> None:
        """Take an invalidation, and acknowledge it when nothing uses any more what it ends; one of everything that
        nobody waits for, if the device is ``renamed``."""
        message = Signal(InvalidationRequest)
        name, changed, own = Signal.like(self.device_id), Signal(), Signal()
        wait = Signal(range(_ELSEWHERE_CYCLES + 1))
        address, done = message.address, self.invalidated
        m.d.comb += [
            table.pages.page.eq(address),
            # A range's number ends in a 0 and ones, as many as it has bits.
            table.pages.mask.eq(Mux(message.size, address ^ (address + 1), 0)),
            done.payload.tag.eq(message.tag),
            done.payload.device_id.eq(message.device_id),
            renamed.eq(changed | own),
        ]
        m.d.sync += changed.eq(name != self.device_id)
        with m.FSM():
            with m.State("IDLE"):
                # What waits meanwhile is taken after the reset, which would forget what had just been taken.
                m.d.comb += [
                    self.invalidate.ready.eq(~self.hold & ~changed),
                    self.idle.eq(requests.idle & ~changed),
                ]
                m.d.sync += [message.eq(self.invalidate.payload), wait.eq(_ELSEWHERE_CYCLES)]
                with m.If(changed):
                    m.d.sync += [own.eq(1), name.eq(self.device_id), message.size.eq(1), message.address.eq(~0)]
                    m.next = "LOOK"
                with m.Elif(self.invalidate.valid & ~self.hold):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += requests.stale.eq(1)
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "ACKNOWLEDGE"
                    with m.If(~table.elsewhere):
                        m.d.comb += table.forget.eq(1)
                        m.next = "MARK"
            with m.State("MARK"):
                m.d.comb += [use.mark.eq(1) for use in uses]
                m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(uses[0].drained & uses[1].drained):
                    m.next = "ACKNOWLEDGE"
            with m.State("ACKNOWLEDGE"):
                m.d.comb += done.valid.eq(~own)
                with m.If(own | done.ready):
                    m.d.sync += own.eq(0)
                    m.next = "IDLE"
