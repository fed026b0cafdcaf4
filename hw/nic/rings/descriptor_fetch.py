# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors from memory into the NIC, ahead of their use."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.abi.rings import ENTRY_BYTES, INDEX_BITS, QueueError
from hw.config import NicConfig
from hw.nic.interfaces import DescriptorPort, QueueControl, QueueWrite, ReadPort, queue_fault_stream
from hw.nic.rings.arrivals import DescriptorArrivals
from hw.nic.rings.faults import QueueFaults
from hw.nic.rings.fetch_requests import FetchRequests
from hw.nic.rings.posted import PostedIndices


class DescriptorFetch(wiring.Component):
    """Prefetch the descriptors of one direction's rings into a cache shared by all queues.

    ::

        queue_write ─► posted ─► requests ─► read.command
                                    │ queue
                                    ▼
                    read.data ─► arrivals ─┬► descriptors.arrived
                                           └► cache ─► descriptors.entry

    **Order.** Descriptors arrive in ring order, each once. What is fetched when, see
    :class:`hw.nic.rings.fetch_requests.FetchRequests`; queues take turns.

    **Timing.** The first fetch is commanded eleven cycles after its doorbell's write, later ones of any queues every
    fourth cycle. A fetch's descriptors arrive one a cycle (at 64 bits, every second cycle), from the seventh cycle
    after its last beat on. ``read.data`` is never paused.

    **Doorbells** count while the queue is enabled. One whose producer index lies more than a ring ahead of the first
    descriptor not yet taken, or moves back, is not taken and reported as DOORBELL.

    **Errors.** A fetch answered with an error is reported as RING_READ; neither its descriptors nor later ones arrive.
    Each queue reports its first fault only, and fetches nothing more, until it is cleared.

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
        See :mod:`hw.nic.interfaces`.
    """

    def __init__(self, config: NicConfig, *, base: str, size: str, doorbell: str, producer: str):
        self._config = config
        self._posted = PostedIndices(config, size=size, doorbell=doorbell, producer=producer)
        self._requests = FetchRequests(config, base=base, size=size)
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
        m.submodules.posted, m.submodules.requests = posted, requests = self._posted, self._requests
        m.submodules.arrivals = arrivals = DescriptorArrivals(config)
        m.submodules.faults = faults = QueueFaults(config)
        # Whose each fetch under way is.
        # Yosys knows no memory without bits, as one queue alone would have.
        width = max(1, ceil_log2(config.queues))
        m.submodules.fetches = fetches = SyncFIFO(width=width, depth=config.outstanding_reads)
        live = Signal(config.queues)
        taken = Signal(data.ArrayLayout(INDEX_BITS, config.queues))
        take, port = self.descriptors.take, self.descriptors
        for inner, outer in (
            (faults.faults, self.faults),
            (posted.queue_write, self.queue_write),
            (requests.queue_write, self.queue_write),
            (requests.command, self.read.command),
            (arrivals.beats, self.read.data),
            (arrivals.arrived, port.arrived),
        ):
            wiring.connect(m, inner, wiring.flipped(outer))
        m.d.comb += [
            live.eq(self.control.enable & ~faults.failed),
            *(block.live.eq(live) for block in (posted, requests, arrivals)),
            *(block.clear.eq(self.control.clear) for block in (posted, requests, faults)),
            *(block.taken.eq(taken) for block in (posted, requests)),
            requests.posted.eq(posted.posted),
            fetches.r_en.eq(self.read.data.valid & self.read.data.payload.last),
            arrivals.queue.eq(fetches.r_data),
            requests.finish.eq(arrivals.finish),
            requests.finish_queue.eq(arrivals.finish_queue),
            self.control.busy.eq(requests.busy),
            faults.reports[0].strobe.eq(posted.refused),
            faults.reports[0].queue.eq(posted.refused_queue),
            faults.reports[0].error.eq(QueueError.DOORBELL),
            faults.reports[1].strobe.eq(arrivals.failed),
            faults.reports[1].queue.eq(arrivals.failed_queue),
            faults.reports[1].error.eq(QueueError.RING_READ),
        ]
        m.d.sync += [
            fetches.w_en.eq(requests.issued),
            fetches.w_data.eq(requests.issued_queue),
            port.fetching.eq(live & (requests.busy | requests.due)),
        ]
        with m.If(take.strobe):
            m.d.sync += taken[take.queue].eq(taken[take.queue] + take.count)
        for q in range(config.queues):
            with m.If(self.control.clear[q]):
                m.d.sync += taken[q].eq(0)
        self._cache(m)
        return m

    def _cache(self, m: Module) -> None:
        """Keep what arrives until it is taken."""
        depth, queues = self._config.fetch_depth, self._config.queues
        port = self.descriptors
        arrived = port.arrived
        m.submodules.cache = cache = Memory(
            shape=8 * ENTRY_BYTES, depth=queues * depth, init=[], attrs={"no_rw_check": 1}
        )
        write, read = cache.write_port(), cache.read_port()
        bits = exact_log2(depth)
        places = Signal(data.ArrayLayout(bits, queues))  # of each queue's next arrival
        m.d.comb += [
            write.en.eq(arrived.strobe),
            write.addr.eq(Cat(places[arrived.queue], arrived.queue)),
            write.data.eq(arrived.entry),
            read.en.eq(port.read_enable),
            read.addr.eq(Cat(port.read_index, port.read_queue)),
        ]
        entry = Signal(8 * ENTRY_BYTES, reset_less=True)  # as block RAM's own output register is
        m.d.comb += port.entry.eq(entry)
        with m.If(port.read_enable):
            m.d.sync += entry.eq(read.data)
        with m.If(arrived.strobe):
            m.d.sync += places[arrived.queue].eq(places[arrived.queue] + 1)
        for q in range(queues):
            with m.If(self.control.clear[q]):
                m.d.sync += places[q].eq(0)
