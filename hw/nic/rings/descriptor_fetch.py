# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors from memory into the NIC, ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.registers import register_map
from hw.abi.rings import ENTRIES_PER_LINE, ENTRY_BYTES, INDEX_BITS, LINE_BYTES, QueueError
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.interfaces import DescriptorPort, QueueControl, QueueWrite, ReadPort, queue_fault_stream
from hw.nic.queue_register import QueueRegister
from hw.nic.rings.entry_banks import EntryBanks
from hw.nic.rings.faults import QueueFaults

_LINE_BITS = exact_log2(ENTRIES_PER_LINE)
_ENTRY_BITS = exact_log2(ENTRY_BYTES)


class DescriptorFetch(wiring.Component):
    """Prefetch the descriptors of one direction's rings into a cache shared by all queues.

    **Order.** Descriptors become available in ring order. A fetch is at most the rest of a 64-byte line, so it crosses
    neither the ring's end nor the published producer index. Queues take turns.

    **When.** A queue has at most ``fetch_depth`` descriptors cached and in flight; it fetches while there is room for a
    whole line. Less than the rest of a line is fetched only if the queue has nothing in flight, or fewer than four
    descriptors cached and in flight.

    **Timing.** The first fetch is commanded three cycles after its doorbell's write, later ones of any queues every
    second cycle. A fetch's descriptors are available the cycle after its last beat came. One descriptor a cycle leaves
    the cache. ``read.data`` is never paused.

    **Doorbells** count while the queue is enabled. One whose producer index lies more than a ring ahead of the first
    descriptor not yet taken, or moves back, is not taken and reported as DOORBELL.

    **Errors.** A fetch answered with an error is reported as RING_READ; neither its descriptors nor later ones become
    available. Each queue reports its first fault only, and fetches nothing more, until it is cleared.

    **Stopping.** When ``enable`` falls nothing new is fetched, what is in flight is discarded when it comes, and then
    ``busy`` falls. ``clear`` must not come before.

    Parameters
    ----------
    config : NicConfig
    base, size, doorbell : names of the rings' registers in ``register_map(...).queue``
    producer : name of the doorbell's field with the producer index

    Members
    -------
    queue_write, control, descriptors, read, faults
        See :mod:`hw.nic.interfaces`. ``descriptors.fetching`` also covers posted descriptors whose fetch is due next.
    """

    def __init__(self, config: NicConfig, *, base: str, size: str, doorbell: str, producer: str):
        self._config = config
        self._base, self._size = base, size
        self._doorbell = register_map(config.queues).queue[doorbell]
        if producer not in self._doorbell.fields:
            raise ValueError(
                f"Register {doorbell} has no field {producer!r}; it has {', '.join(self._doorbell.fields)}"
            )
        self._producer = self._doorbell.fields[producer]
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "control": In(QueueControl(config)),
                "descriptors": In(DescriptorPort(config)),
                "read": Out(ReadPort(config)),
                "faults": Out(queue_fault_stream(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.base = base = QueueRegister(config, self._base, width=64)
        m.submodules.size = size = QueueRegister(config, self._size, width=INDEX_BITS, ports=2)
        m.submodules.cache = cache = EntryBanks(
            depth=config.queues * config.fetch_depth, wide=max(1, config.beat_bytes // ENTRY_BYTES)
        )
        m.submodules.faults = faults = QueueFaults(config)
        wiring.connect(m, wiring.flipped(self.faults), faults.faults)
        for register in (base, size):
            wiring.connect(m, register.write, wiring.flipped(self.queue_write))
        # Free-running indices of each queue: consumed <= arrived <= fetched <= posted.
        indices = data.ArrayLayout(INDEX_BITS, config.queues)
        posted, fetched, arrived, consumed = Signal(indices), Signal(indices), Signal(indices), Signal(indices)
        live = Signal(config.queues)
        m.d.comb += [live.eq(self.control.enable & ~faults.failed), faults.clear.eq(self.control.clear)]

        self._post(m, size.reads[0], live, posted, consumed, faults)
        fetches, shape = self._request(m, base.reads[0], size.reads[1], live, posted, fetched, consumed)
        self._arrive(m, fetches, shape, cache, live, arrived, faults)
        self._serve(m, cache, live, posted, fetched, arrived, consumed)
        for q in range(config.queues):
            with m.If(self.control.clear[q]):
                m.d.sync += [index[q].eq(0) for index in (posted, fetched, arrived, consumed)]
        return m

    def _slot(self, queue, index):
        """Place in the cache."""
        bits = exact_log2(self._config.fetch_depth)
        return Cat(index[:bits], queue)

    def _due(self, posted, fetched, consumed):
        """There are descriptors to fetch, and room for a whole line of them."""
        used = (fetched - consumed)[: exact_log2(self._config.fetch_depth) + 1]
        return (posted != fetched) & (used <= self._config.fetch_depth - ENTRIES_PER_LINE)

    def _post(self, m, size, live, posted, consumed, faults) -> None:
        """Take the producer index of a doorbell."""
        write = self.queue_write
        new = write.data[self._producer.lsb :][:INDEX_BITS]
        rung, sound = Signal(), Signal()
        m.d.comb += [
            size.queue.eq(write.queue),
            rung.eq(write.strobe & (write.offset == self._doorbell.offset) & live.bit_select(write.queue, 1)),
            sound.eq(
                (_distance(new, consumed[write.queue]) <= size.value)
                & (_distance(new, posted[write.queue]) <= size.value)
            ),
            faults.reports[0].strobe.eq(rung & ~sound),
            faults.reports[0].queue.eq(write.queue),
            faults.reports[0].error.eq(QueueError.DOORBELL),
        ]
        with m.If(rung & sound):
            m.d.sync += posted[write.queue].eq(new)

    def _request(self, m, base, size, live, posted, fetched, consumed):
        """Pick a queue with work in one cycle, command its fetch in the next if there is enough for one."""
        config = self._config
        shape = data.StructLayout({"queue": range(config.queues), "count": range(ENTRIES_PER_LINE + 1)})
        m.submodules.fetches = fetches = SyncFIFO(width=shape.size, depth=config.outstanding_reads)
        m.submodules.arbiter = arbiter = RoundRobin(config.queues)
        command = self.read.command
        picked, queue = Signal(), Signal(range(config.queues))
        waiting, used, rest, count = Signal(INDEX_BITS), Signal(INDEX_BITS), Signal(3), Signal(3)
        whole, wanted, issue = Signal(), Signal(), Signal()
        outstanding = Signal(data.ArrayLayout(range(config.outstanding_reads + 1), config.queues))
        queues = range(config.queues)
        first = fetched[queue]
        record = shape(fetches.w_data)
        with m.If(picked):
            m.d.sync += picked.eq(wanted & ~issue)
        with m.Elif(arbiter.valid):
            m.d.sync += [picked.eq(1), queue.eq(arbiter.grant)]
        m.d.comb += [
            arbiter.requests.eq(live & sum(self._due(posted[q], fetched[q], consumed[q]) << q for q in queues)),
            arbiter.taken.eq(~picked),
            base.queue.eq(queue),
            size.queue.eq(queue),
            waiting.eq(posted[queue] - first),
            used.eq(first - consumed[queue]),
            rest.eq(ENTRIES_PER_LINE - first[:_LINE_BITS]),
            whole.eq(waiting >= rest),
            count.eq(Mux(whole, rest, waiting)),
            wanted.eq(live.bit_select(queue, 1) & (whole | (used < ENTRIES_PER_LINE) | (outstanding[queue] == 0))),
            issue.eq(picked & wanted & fetches.w_rdy & (~command.valid | command.ready)),
            fetches.w_en.eq(issue),
            record.queue.eq(queue),
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
        with m.Elif(command.ready):
            m.d.sync += command.valid.eq(0)
        returned = shape(fetches.r_data)
        for q in queues:
            began = issue & (queue == q)
            ended = fetches.r_en & (returned.queue == q)
            m.d.sync += outstanding[q].eq(outstanding[q] + began - ended)
            m.d.comb += self.control.busy[q].eq(outstanding[q] != 0)
        return fetches, shape

    def _arrive(self, m, fetches, shape, cache, live, arrived, faults) -> None:
        """Store what comes; make it available when all of a fetch has come without error."""
        beat = self.read.data
        wide = max(1, self._config.beat_bytes // ENTRY_BYTES)
        parts = max(1, ENTRY_BYTES // self._config.beat_bytes)
        fetch = shape(fetches.r_data)
        wide_bits, part_bits = exact_log2(wide), exact_log2(parts)
        position = Signal(range(LINE_BYTES // self._config.beat_bytes))
        index = Signal(INDEX_BITS)
        whole = Signal()
        m.d.comb += [
            beat.ready.eq(1),
            index.eq(arrived[fetch.queue] + (position[part_bits:] << wide_bits)),
            cache.write_index.eq(self._slot(fetch.queue, index)),
            whole.eq(position[:part_bits] == parts - 1),
            fetches.r_en.eq(beat.valid & beat.p.last),
        ]
        with m.If(beat.valid & whole):
            m.d.comb += cache.write_count.eq(1 if parts > 1 else beat.p.count >> _ENTRY_BITS)
        if parts == 1:
            m.d.comb += cache.write_entries.eq(beat.p.data)
        else:
            low = Signal.like(beat.p.data)
            with m.If(beat.valid):
                m.d.sync += low.eq(beat.p.data)
            m.d.comb += [
                cache.write_entries[0][: self._config.data_width].eq(low),
                cache.write_entries[0][self._config.data_width :].eq(beat.p.data),
            ]
        with m.If(beat.valid):
            m.d.sync += position.eq(Mux(beat.p.last, 0, position + 1))
        kept = fetches.r_en & live.bit_select(fetch.queue, 1)
        with m.If(kept & ~beat.p.error):
            m.d.sync += arrived[fetch.queue].eq(arrived[fetch.queue] + fetch.count)
        m.d.comb += [
            faults.reports[1].strobe.eq(kept & beat.p.error),
            faults.reports[1].queue.eq(fetch.queue),
            faults.reports[1].error.eq(QueueError.RING_READ),
        ]

    def _serve(self, m, cache, live, posted, fetched, arrived, consumed) -> None:
        """Let the consumer look and take."""
        port = self.descriptors
        next_, got, asked = consumed[port.queue], arrived[port.queue], fetched[port.queue]
        m.d.comb += [
            cache.read_index.eq(self._slot(port.queue, (next_ + port.offset)[:INDEX_BITS])),
            port.entry.eq(cache.read_entries[0]),
            port.available.eq(got - next_),
            port.fetching.eq(
                live.bit_select(port.queue, 1) & ((asked != got) | self._due(posted[port.queue], asked, next_))
            ),
        ]
        with m.If(port.take):
            m.d.sync += next_.eq(next_ + port.take_count)


def _distance(later, earlier):
    """From one free-running index to another."""
    return (later - earlier)[:INDEX_BITS]
