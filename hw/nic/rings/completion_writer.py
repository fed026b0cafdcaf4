# SPDX-License-Identifier: BSD-2-Clause
"""Completions from the NIC into memory, several to a write."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.registers import register_map
from hw.abi.rings import ENTRIES_PER_LINE, ENTRY_BYTES, INDEX_BITS, QueueError
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.interfaces import CompletionPort, Published, QueueControl, QueueWrite, WritePort, queue_fault_stream
from hw.nic.queue_register import QueueRegister
from hw.nic.rings.entry_banks import EntryBanks
from hw.nic.rings.faults import QueueFaults
from hw.nic.rings.line_timer import LineTimer

_LINE_BITS = exact_log2(ENTRIES_PER_LINE)
_ENTRY_BITS = exact_log2(ENTRY_BYTES)
_STAGED_BITS = 4  #: a queue stages up to 16 entries: four lines
_JOBS = 8  #: writes commanded whose entries have not all been handed to DMA


class CompletionWriter(wiring.Component):
    """Write the completions of one direction to its rings, grouped by 64-byte line.

    **Order.** Entries of a queue are written in order, each exactly once, with the phase bit of their pass. A write
    carries up to four entries of one line, and no other bytes, so that a completion ring may lie over its fill ring.
    Queues take turns.

    **When.** A queue's waiting entries are written as soon as they reach the end of a line, ``timeout`` cycles after
    the oldest of them was taken (0: at once), or when the queue is not enabled.

    **Timing.** One entry a cycle, of any queues, while fewer than 16 of its queue are not yet handed to DMA. A write is
    commanded four cycles after the entry that made it due; later ones every second cycle. ``published`` comes the
    cycle after the write's ``done``. Up to ``outstanding_writes`` writes are under way.

    **Slots.** ``free`` counts with the consumer index of the doorbell. A consumer index that moves back, or beyond the
    last commanded write, is not taken and reported as DOORBELL. (Not beyond the last *acknowledged* one: software may
    see a completion before its acknowledgement reaches the NIC.) Doorbells count while the queue is enabled.

    **Errors.** A write answered with an error is reported as RING_WRITE; neither its entries nor later ones are
    published. From then on the queue's entries are taken and dropped, until it is cleared. Each queue reports its first
    fault only; a queue with a bad doorbell still writes what it is given.

    **Stopping.** ``busy``: entries wait, or writes are without response. ``clear`` must not come while it is high.

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
        self._base, self._size = base, size
        self._doorbell = register_map(config.queues).queue[doorbell]
        if consumer not in self._doorbell.fields:
            raise ValueError(
                f"Register {doorbell} has no field {consumer!r}; it has {', '.join(self._doorbell.fields)}"
            )
        self._consumer = self._doorbell.fields[consumer]
        self._write_shape = data.StructLayout(
            {"queue": range(config.queues), "first": _STAGED_BITS, "count": range(ENTRIES_PER_LINE + 1)}
        )
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

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.base = base = QueueRegister(config, self._base, width=64)
        m.submodules.size = size = QueueRegister(config, self._size, width=INDEX_BITS, ports=2)
        m.submodules.faults = faults = QueueFaults(config)
        m.submodules.staged = staged = EntryBanks(
            depth=config.queues << _STAGED_BITS, wide=max(1, config.beat_bytes // ENTRY_BYTES)
        )
        wiring.connect(m, wiring.flipped(self.faults), faults.faults)
        for register in (base, size):
            wiring.connect(m, register.write, wiring.flipped(self.queue_write))
        # Free-running indices of each queue: consumed <= sent, visible <= moved <= sent <= accepted.
        indices = data.ArrayLayout(INDEX_BITS, config.queues)
        names = ("consumed", "visible", "moved", "sent", "accepted")
        index = {name: Signal(indices, name=name) for name in names}
        broken = Signal(config.queues)  # a write of the queue was refused
        m.submodules.timer = timer = LineTimer(config.queues)
        m.d.comb += [timer.timeout.eq(self.timeout), faults.clear.eq(self.control.clear)]

        moves = Signal(indices)
        self._consume(m, index, moves, faults)
        self._reserve(m, moves)
        coming = Signal(config.queues)  # an entry of the queue is not staged yet
        self._accept(m, size.reads[0], index, broken, staged, timer, coming)
        jobs, writes = self._send(m, base.reads[0], size.reads[1], index, broken, timer, coming)
        self._move(m, jobs, staged, index["moved"])
        self._publish(m, writes, index["visible"], broken, faults)
        for q in range(config.queues):
            with m.If(self.control.clear[q]):
                m.d.sync += [broken[q].eq(0), *(index[name][q].eq(0) for name in names)]
        return m

    def _consume(self, m, index, moves, faults) -> None:
        """Take the consumer index of a doorbell."""
        write = self.queue_write
        new = write.data[self._consumer.lsb :][:INDEX_BITS]
        consumed, sent = index["consumed"][write.queue], index["sent"][write.queue]
        rung, sound = Signal(), Signal()
        enabled = self.control.enable.bit_select(write.queue, 1)
        m.d.comb += [
            rung.eq(write.strobe & (write.offset == self._doorbell.offset) & enabled),
            sound.eq((sent - new)[:INDEX_BITS] <= (sent - consumed)[:INDEX_BITS]),
            faults.reports[0].strobe.eq(rung & ~sound),
            faults.reports[0].queue.eq(write.queue),
            faults.reports[0].error.eq(QueueError.DOORBELL),
        ]
        with m.If(rung & sound):
            m.d.comb += moves[write.queue].eq(new - consumed)
            m.d.sync += consumed.eq(new)

    def _reserve(self, m, consumed) -> None:
        """Count the slots that are free, and set some aside. ``consumed``: how far each queue's consumer index moves in
        this cycle."""
        port, write = self.completions, self.queue_write
        size = register_map(self._config.queues).queue[self._size]
        sizes = Signal(data.ArrayLayout(INDEX_BITS, self._config.queues))
        with m.If(write.strobe & (write.offset == size.offset)):
            m.d.sync += sizes[write.queue].eq(write.data)
        free = Signal.like(port.free)
        m.d.comb += port.free.eq(free)
        for q in range(self._config.queues):
            reserves = port.reserve & (port.reserve_queue == q)
            m.d.sync += free[q].eq(free[q] + consumed[q] - Mux(reserves, port.reserve_count, 0))
            with m.If(self.control.clear[q]):
                m.d.sync += free[q].eq(sizes[q])

    def _accept(self, m, size, index, broken, staged, timer, coming) -> None:
        """Stage an entry, with its phase."""
        m.submodules.skid = skid = SkidBuffer(self.completions.entry.p.shape())
        wiring.connect(m, wiring.flipped(self.completions.entry), skid.input)
        entry = skid.output
        queue = entry.p.queue
        # An entry on its way in keeps its queue busy; whose one in the spare register is does not matter that long.
        m.d.comb += coming.eq(Mux(skid.input.ready, Mux(entry.valid, 1 << queue, 0), -1))
        accepted, moved, sent = (index[name][queue] for name in ("accepted", "moved", "sent"))
        refused = broken.bit_select(queue, 1)
        staged_now = (accepted - moved)[: _STAGED_BITS + 1]
        kept = Signal()
        odd_pass = (accepted & size.value).any()
        m.d.comb += [
            size.queue.eq(queue),
            entry.ready.eq(refused | (staged_now != 1 << _STAGED_BITS)),
            kept.eq(entry.valid & entry.ready & ~refused),
            staged.write_count.eq(kept),
            staged.write_index.eq(Cat(accepted[:_STAGED_BITS], queue)),
            staged.write_entries[0].eq(Cat(entry.p.entry[:-1], ~odd_pass)),
        ]
        with m.If(kept):
            m.d.sync += accepted.eq(accepted + 1)
            with m.If((accepted[:_LINE_BITS] == 0) | (accepted == sent)):
                m.d.comb += timer.start.bit_select(queue, 1).eq(1)

    def _send(self, m, base, size, index, broken, timer, coming) -> tuple[SyncFIFO, SyncFIFO]:
        """Pick a queue whose entries are due in one cycle, command their write in the next."""
        config = self._config
        m.submodules.arbiter = arbiter = RoundRobin(config.queues)
        m.submodules.jobs = jobs = SyncFIFO(width=self._write_shape.size, depth=_JOBS)
        m.submodules.writes = writes = SyncFIFO(width=self._write_shape.size, depth=config.outstanding_writes)
        picked, queue = Signal(), Signal(range(config.queues))
        refused, issue = Signal(), Signal()
        with m.If(picked):
            m.d.sync += picked.eq(~issue & ~refused)
        with m.Elif(arbiter.valid):
            m.d.sync += [picked.eq(1), queue.eq(arbiter.grant)]
        command = self.write.command
        first = index["sent"][queue]
        behind, rest, count = Signal(INDEX_BITS), Signal(3), Signal(3)
        waiting, whole = Signal(config.queues), Signal(config.queues)
        lines = slice(_LINE_BITS, _STAGED_BITS + 1)
        for q in range(config.queues):
            accepted, sent = index["accepted"][q], index["sent"][q]
            m.d.comb += [
                waiting[q].eq((accepted[: lines.stop] != sent[: lines.stop]) & ~broken[q]),
                whole[q].eq((accepted[lines] != sent[lines]) & ~broken[q]),
            ]
        m.d.comb += [
            arbiter.requests.eq(whole | (waiting & (timer.due | ~self.control.enable))),
            arbiter.taken.eq(~picked),
            base.queue.eq(queue),
            size.queue.eq(queue),
            behind.eq(index["accepted"][queue] - first),
            rest.eq(ENTRIES_PER_LINE - first[:_LINE_BITS]),
            count.eq(Mux(behind < rest, behind, rest)),
            refused.eq(broken.bit_select(queue, 1)),
            issue.eq(picked & ~refused & (~command.valid | command.ready) & jobs.w_rdy & writes.w_rdy),
        ]
        for fifo in (jobs, writes):
            record = self._write_shape(fifo.w_data)
            m.d.comb += [
                fifo.w_en.eq(issue),
                record.queue.eq(queue),
                record.first.eq(first),
                record.count.eq(count),
            ]
        with m.If(issue):
            m.d.sync += [
                command.valid.eq(1),
                command.p.queue.eq(queue),
                command.p.address.eq(base.value + ((first & (size.value - 1)) << _ENTRY_BITS)),
                command.p.length.eq(count << _ENTRY_BITS),
                first.eq(first + count),
            ]
            with m.If(count == behind):
                # An entry that is taken in this very cycle becomes the oldest.
                m.d.comb += timer.start.bit_select(queue, 1).eq(1)
        with m.Elif(command.ready):
            m.d.sync += command.valid.eq(0)
        self._watch(m, waiting | coming, issue, queue, writes)
        return jobs, writes

    def _watch(self, m, waiting, issue, queue, writes) -> None:
        """Count each queue's writes without response."""
        ended = self._write_shape(writes.r_data)
        outstanding = Signal(data.ArrayLayout(range(self._config.outstanding_writes + 1), self._config.queues))
        for q in range(self._config.queues):
            step = (issue & (queue == q)) - (writes.r_en & (ended.queue == q))
            m.d.sync += outstanding[q].eq(outstanding[q] + step)
            m.d.comb += self.control.busy[q].eq(waiting[q] | (outstanding[q] != 0))

    def _move(self, m, jobs, staged, moved) -> None:
        """Hand the entries of each command to DMA."""
        beat = self.write.data
        beat_bytes = self._config.beat_bytes
        wide, parts = max(1, beat_bytes // ENTRY_BYTES), max(1, ENTRY_BYTES // beat_bytes)
        job = self._write_shape(jobs.r_data)
        entries, part = Signal(range(ENTRIES_PER_LINE)), Signal(range(parts))
        rest = Signal(3)
        taken = Signal()
        final = (rest <= wide) & (part == parts - 1)
        m.d.comb += [
            rest.eq(job.count - entries),
            staged.read_index.eq(Cat((job.first + entries)[:_STAGED_BITS], job.queue)),
            beat.valid.eq(jobs.r_rdy),
            beat.p.last.eq(final),
            taken.eq(beat.valid & beat.ready),
            jobs.r_en.eq(taken & final),
        ]
        if parts > 1:
            half = staged.read_entries[0].word_select(part, self._config.data_width)
            m.d.comb += [beat.p.data.eq(half), beat.p.count.eq(beat_bytes)]
        else:
            m.d.comb += [
                beat.p.data.eq(staged.read_entries),
                beat.p.count.eq(Mux(rest < wide, rest, wide) << _ENTRY_BITS),
            ]
        with m.If(taken):
            m.d.sync += part.eq(part + 1)
            with m.If(final):
                m.d.sync += [entries.eq(0), moved[job.queue].eq(moved[job.queue] + job.count)]
            with m.Elif(part == parts - 1):
                m.d.sync += entries.eq(entries + wide)

    def _publish(self, m, writes, visible, broken, faults) -> None:
        """Account for each response."""
        done = self.write.done
        write = self._write_shape(writes.r_data)
        producer = (visible[write.queue] + write.count)[:INDEX_BITS]
        counts = writes.r_en & ~broken.bit_select(write.queue, 1)
        m.d.comb += [
            done.ready.eq(writes.r_rdy),
            writes.r_en.eq(done.valid & done.ready),
            faults.reports[1].strobe.eq(counts & done.p.error),
            faults.reports[1].queue.eq(write.queue),
            faults.reports[1].error.eq(QueueError.RING_WRITE),
        ]
        m.d.sync += self.published.strobe.eq(counts & ~done.p.error)
        with m.If(counts & done.p.error):
            m.d.sync += broken.bit_select(write.queue, 1).eq(1)
        with m.If(counts & ~done.p.error):
            m.d.sync += [
                visible[write.queue].eq(producer),
                self.published.queue.eq(write.queue),
                self.published.producer.eq(producer),
                self.published.count.eq(write.count),
            ]
