# SPDX-License-Identifier: BSD-2-Clause
"""Completions from the NIC into memory, several to a write."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.rings import INDEX_BITS, QueueError
from hw.bus.join import join
from hw.config import NicConfig
from hw.nic.interfaces import CompletionPort, Published, QueueControl, QueueWrite, WritePort, queue_fault_stream
from hw.nic.rings.completion_staging import CompletionStaging
from hw.nic.rings.faults import QueueFaults
from hw.nic.rings.free_slots import FreeSlots
from hw.nic.rings.line_sender import LineSender, SentLine


class CompletionWriter(wiring.Component):
    """Write the completions of one direction to its rings, grouped by 64-byte line.

    ::

        completions.entry ──► CompletionStaging ──────► write.data
                                  │      ▲ lines
                                  ▼      │
                              LineSender ────► write.command
                                  │ sent        writes │
                                  ▼                    ▼
        completions.free ◄── FreeSlots      write.done ──► published

    **Order.** Entries of a queue are written in order, each exactly once, with the phase bit of their pass. A write
    carries up to four entries of one line, and no other bytes, so that a completion ring may lie over its fill ring.
    Queues take turns.

    **When.** A queue's waiting entries are written as soon as they reach the end of a line, ``timeout`` cycles after
    the oldest of them was taken (0: at once), or when the queue is not enabled.

    **Timing.** One entry a cycle, of any queues, while fewer than 30 of its queue are not yet handed to DMA. A write is
    commanded seven cycles after the entry that completed its line was taken, eight after the timeout; later ones every
    second cycle, those of one queue every third. ``published`` comes three cycles after the write's ``done``. Up to
    ``outstanding_writes`` writes are under way.

    **Slots.** ``free`` counts with the consumer index of the doorbell, five cycles after its write. A consumer index
    that moves back, or beyond the last write that is commanded or about to be, is not taken and reported as DOORBELL.
    (Not beyond the last *acknowledged* one: software may see a completion before its acknowledgement reaches the NIC.)
    Doorbells count while the queue is enabled and had no bad one. A queue that is cleared has no slots at first, and
    all of its ring some cycles later: see :class:`hw.nic.rings.free_slots.FreeSlots`.

    **Errors.** A write answered with an error is reported as RING_WRITE; neither its entries nor later ones are
    published. From then on the queue's entries are taken and dropped, until it is cleared. Each queue reports its first
    fault only; a queue with a bad doorbell still writes what it is given.

    **Stopping.** ``busy``: entries wait, or writes are without response; it rises in the cycle after an entry is taken,
    and falls in the cycle after the last of them is published. ``clear`` must not come while it is high.

    Parameters
    ----------
    config : NicConfig
    base, size, doorbell : names of the rings' registers in ``register_map(...).queue``
    consumer : name of the doorbell's field with the consumer index

    Members
    -------
    queue_write, control, completions, write, published, faults
        See :mod:`hw.nic.interfaces`.
    timeout : cycles
    """

    def __init__(
        self, config: NicConfig, *, base: str, size: str, doorbell: str, consumer: str = "completion_consumer"
    ):
        self._config = config
        self._staging = CompletionStaging(config)
        self._sender = LineSender(config, base=base, size=size)
        self._slots = FreeSlots(config, size=size, doorbell=doorbell, consumer=consumer)
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "control": In(QueueControl(config)),
                "completions": In(CompletionPort(config)),
                "write": Out(WritePort(config)),
                "published": Out(Published(config)),
                "faults": Out(queue_fault_stream(config)),
                "timeout": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.staging = staging = self._staging
        m.submodules.sender = sender = self._sender
        m.submodules.slots = slots = self._slots
        m.submodules.faults = faults = QueueFaults(config)
        broken = Signal(config.queues)  # a write of the queue was refused

        join(m, flipped(self.completions.entry), staging.entry)
        join(m, sender.lines, staging.lines)
        join(m, sender.command, flipped(self.write.command))
        join(m, staging.data, flipped(self.write.data))
        join(m, faults.faults, flipped(self.faults))
        for listener in (sender.queue_write, slots.queue_write):
            join(m, flipped(self.queue_write), listener)
        for block in (staging, sender, slots, faults):
            m.d.comb += block.clear.eq(self.control.clear)
        m.d.comb += [
            staging.drop.eq(broken),
            sender.broken.eq(broken),
            sender.timeout.eq(self.timeout),
            sender.enable.eq(self.control.enable),
            sender.accepts.eq(staging.accepts),
            sender.accepted.eq(staging.accepted),
            slots.enable.eq(self.control.enable),
            slots.sent.eq(sender.sent),
            slots.slots.reserve.eq(self.completions.reserve),
            slots.slots.reserve_queue.eq(self.completions.reserve_queue),
            slots.slots.reserve_count.eq(self.completions.reserve_count),
            self.completions.free.eq(slots.slots.free),
            faults.reports[0].strobe.eq(slots.refused),
            faults.reports[0].queue.eq(slots.refused_queue),
            faults.reports[0].error.eq(QueueError.DOORBELL),
        ]
        answered = self._publish(m, sender.writes, broken, faults.reports[1])
        self._watch(m, staging.coming | (sender.unsent & ~broken) | sender.picks, sender, answered)
        return m

    def _publish(self, m: Module, writes, broken: Signal, report):
        """Account for each response: which write it is in one cycle, what becomes of it in the next."""
        done = self.write.done
        came, failed = Signal(), Signal()
        answered = Signal(data.StructLayout({"valid": 1, "error": 1, "write": SentLine(self._config)}))
        visible = Signal(data.ArrayLayout(INDEX_BITS, self._config.queues))
        m.d.comb += [done.ready.eq(1), writes.ready.eq(came)]
        m.d.sync += [
            came.eq(done.valid),
            failed.eq(done.payload.error),
            answered.valid.eq(came),
            answered.error.eq(failed),
            answered.write.eq(writes.payload),
        ]
        write, refused, counts = answered.write, Signal(), Signal()
        is_broken, producer = broken.bit_select(write.queue, 1), visible[write.queue]
        m.d.comb += [
            refused.eq(answered.valid & answered.error),
            counts.eq(answered.valid & ~answered.error & ~is_broken),
        ]
        m.d.sync += [
            report.strobe.eq(refused),
            report.queue.eq(write.queue),
            report.error.eq(QueueError.RING_WRITE),
            self.published.strobe.eq(counts),
            self.published.queue.eq(write.queue),
            self.published.producer.eq(producer + write.count),
            self.published.count.eq(write.count),
        ]
        with m.If(refused):
            m.d.sync += is_broken.eq(1)
        with m.If(counts):
            m.d.sync += producer.eq(producer + write.count)
        for q in range(self._config.queues):
            with m.If(self.control.clear[q]):
                m.d.sync += [broken[q].eq(0), visible[q].eq(0)]
        return answered

    def _watch(self, m: Module, waiting, sender, answered) -> None:
        """Count each queue's writes without response."""
        # Those on their way to the command, too.
        limit = self._config.outstanding_writes + 4
        outstanding = Signal(data.ArrayLayout(range(limit), self._config.queues))
        begins = Signal(self._config.queues)  # counted from the next cycle on
        m.d.sync += begins.eq(Mux(sender.sends, 1 << sender.sends_queue, 0))
        for q in range(self._config.queues):
            ends = answered.valid & (answered.write.queue == q)
            m.d.sync += [
                outstanding[q].eq(outstanding[q] + begins[q] - ends),
                self.control.busy[q].eq(waiting[q] | begins[q] | (outstanding[q] != 0)),
            ]
