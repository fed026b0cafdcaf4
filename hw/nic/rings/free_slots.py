# SPDX-License-Identifier: BSD-2-Clause
"""How many completion slots each ring has left."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.abi.rings import INDEX_BITS
from hw.config import NicConfig
from hw.nic.interfaces import CompletionSlots, QueueControl, QueueWrite
from hw.nic.queue_register import QueueRegister


class FreeSlots(wiring.Component):
    """Count the free slots of completion rings: all are free at first, reserving takes some, and doorbells that carry
    the consumer index give them back.

    A doorbell counts while its queue is enabled. One whose consumer index moves back, or beyond ``sent``, is refused;
    neither it nor a later one of the queue counts, until the queue is cleared.

    **Timing.** ``slots.free`` is exact from the cycle after ``slots.reserve``. Slots come free five cycles after the
    doorbell's write; those of a queue that is cleared six cycles after ``clear``, one more for each queue before it and
    for each doorbell meanwhile, and it has none until then. ``refused`` comes four cycles after the write.

    Parameters
    ----------
    config : NicConfig
    size, doorbell : names of the ring's registers in ``register_map(...).queue``
    consumer : name of the doorbell's field with the consumer index

    Members
    -------
    queue_write, enable, clear : see :mod:`hw.nic.interfaces`
    sent : each queue's free-running index one past the last entry that software may have seen
    slots : CompletionSlots, flipped
    refused, refused_queue : for one cycle
    """

    def __init__(self, config: NicConfig, *, size: str, doorbell: str, consumer: str):
        self._config = config
        self._size = size
        self._doorbell = doorbell
        fields = register_map(config.queues).queue[doorbell].fields
        if consumer not in fields:
            raise ValueError(f"Register {doorbell} has no field {consumer!r}; it has {', '.join(fields)}")
        self._consumer = fields[consumer]
        control = QueueControl(config).members
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "enable": In(control["enable"].shape),
                "clear": In(control["clear"].shape),
                "sent": In(data.ArrayLayout(INDEX_BITS, config.queues)),
                "slots": In(CompletionSlots(config)),
                "refused": Out(1),
                "refused_queue": Out(range(config.queues)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        queues = self._config.queues
        m.submodules.size = size = QueueRegister(self._config, self._size, width=INDEX_BITS)
        wiring.connect(m, size.write, wiring.flipped(self.queue_write))
        kind = {"rung": 1, "filled": 1, "queue": range(queues)}  # a doorbell, or a queue's whole ring
        came = Signal(data.StructLayout(kind | {"index": INDEX_BITS}))
        read = Signal(data.StructLayout(kind | {"index": INDEX_BITS, "before": INDEX_BITS, "sent": INDEX_BITS}))
        measured = Signal(data.StructLayout(kind | {"step": INDEX_BITS, "most": INDEX_BITS}))
        # The index of each queue's last doorbell, even if it has yet to be judged: should it be refused, no later one
        # counts.
        latest = Signal(data.ArrayLayout(INDEX_BITS, queues))
        unfilled, stopped = Signal(queues), Signal(queues)

        write = self.queue_write
        doorbell = write.at[self._doorbell]
        first = Signal(range(queues))
        for q in reversed(range(queues)):
            with m.If(unfilled[q]):
                m.d.comb += first.eq(q)
        m.d.sync += [
            came.rung.eq(doorbell & self.enable.bit_select(write.queue, 1)),
            came.filled.eq(~doorbell & unfilled.any()),
            came.queue.eq(Mux(doorbell, write.queue, first)),
            came.index.eq(write.data[self._consumer.lsb :]),
        ]
        with m.If(~doorbell):
            m.d.sync += unfilled.bit_select(first, 1).eq(0)

        for before, after in ((came, read), (read, measured)):
            m.d.sync += [getattr(after, name).eq(getattr(before, name)) for name in kind]
        m.d.comb += size.reads[0].queue.eq(came.queue)
        m.d.sync += [
            read.index.eq(Mux(came.filled, size.reads[0].value, came.index)),
            read.before.eq(Mux(came.filled, 0, latest[came.queue])),
            read.sent.eq(self.sent[came.queue]),
        ]
        with m.If(came.rung):
            m.d.sync += latest[came.queue].eq(came.index)
        m.d.sync += [measured.step.eq(read.index - read.before), measured.most.eq(read.sent - read.before)]

        rung, sound = Signal(), Signal()
        credit, credited = Signal(INDEX_BITS), Signal(queues)
        m.d.comb += [
            rung.eq(measured.rung & ~stopped.bit_select(measured.queue, 1)),
            sound.eq(measured.step <= measured.most),
        ]
        m.d.sync += [
            self.refused.eq(rung & ~sound),
            self.refused_queue.eq(measured.queue),
            credit.eq(measured.step),
            credited.eq(Mux(measured.filled | (rung & sound), 1 << measured.queue, 0)),
        ]
        with m.If(rung & ~sound):
            m.d.sync += stopped.bit_select(measured.queue, 1).eq(1)

        for q in range(queues):
            more = Mux(credited[q], credit, 0)
            less = Mux(self.slots.reserve & (self.slots.reserve_queue == q), self.slots.reserve_count, 0)
            m.d.sync += self.slots.free[q].eq(self.slots.free[q] + more - less)
            with m.If(self.clear[q]):
                m.d.sync += [latest[q].eq(0), self.slots.free[q].eq(0), unfilled[q].eq(1), stopped[q].eq(0)]
        return m
