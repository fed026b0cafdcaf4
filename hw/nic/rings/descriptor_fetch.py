# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors from memory into the NIC, ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.abi.rings import ENTRY_BYTES, INDEX_BITS, QueueError
from hw.config import NicConfig
from hw.nic.interfaces import DescriptorPort, QueueControl, QueueWrite, ReadPort, queue_fault_stream
from hw.nic.recycle.interfaces import ReturnedBuffer, SuppliedBuffer
from hw.nic.rings.arrivals import DescriptorArrivals
from hw.nic.rings.faults import QueueFaults
from hw.nic.rings.fetch_requests import FetchRequests
from hw.nic.rings.pooled_fills import PooledFills
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
    after its last beat on, with ``recycling`` from the eighth. ``read.data`` is never paused.

    **Doorbells** count while the queue is enabled. One whose producer index lies more than a ring ahead of the first
    descriptor not yet taken, or moves back, is not taken and reported as DOORBELL.

    **Errors.** A fetch answered with an error is reported as RING_READ; neither its descriptors nor later ones arrive.
    Each queue reports its first fault only, and fetches nothing more, until it is cleared.

    **Stopping.** When ``enable`` falls nothing new is fetched, what is in flight is discarded when it comes, and then
    ``busy`` falls. ``clear`` must not come before.

    **Recycling.** A fill descriptor of a queue with a pool hands a buffer back. It does not arrive, but counts as taken
    when it would, and leaves by ``fills``. So a buffer is handed back if and only if its descriptor counted as taken:
    those for which the queue stopped too early are discarded, and still software's. The queue is busy until its fills
    have left. What arrives instead comes by ``supply``: one a cycle, in the cycle of its transfer, whenever no
    descriptor of a queue without a pool arrives. When the queue is cleared, the cache forgets what it was supplied
    with.

    Parameters
    ----------
    config : NicConfig
    base, size, doorbell : names of the rings' registers in ``register_map(...).queue``
    producer : name of the doorbell's field with the producer index
    recycling : queues may have a pool; only of fill rings, where ``config.pools`` is not 0

    Members
    -------
    queue_write, control, descriptors, read, faults
        See :mod:`hw.nic.interfaces`.
    pooled, wanted, fills : only with ``recycling``: see :class:`hw.nic.rings.pooled_fills.PooledFills`
    supply : only with ``recycling``: stream of :class:`hw.nic.recycle.interfaces.SuppliedBuffer`, from registers:
        buffers for queues with a pool, in order. Each queue has, with those in the cache, at most ``fetch_depth`` of
        them; none comes while the queue is neither enabled nor busy elsewhere.
    supplying : only with ``recycling``: one bit per queue, ``descriptors.fetching`` of the queues with a pool one cycle
        before: buffers are to be supplied without software's doing. It does not fall before the cycle after the last
        transfer, and tells of the room that a ``descriptors.take`` makes ``FETCHING_DELAY - 1`` cycles later at the
        latest.
    """

    def __init__(
        self, config: NicConfig, *, base: str, size: str, doorbell: str, producer: str, recycling: bool = False
    ):
        if not isinstance(recycling, bool):
            raise TypeError(f"DescriptorFetch recycling must be a bool, not {recycling!r}")
        if recycling and not config.pools:
            raise ValueError(f"DescriptorFetch recycling must be False where pools is 0, not {recycling!r}")
        self._config = config
        self._recycling = recycling
        self._posted = PostedIndices(config, size=size, doorbell=doorbell, producer=producer)
        self._requests = FetchRequests(config, base=base, size=size)
        members = {
            "queue_write": In(QueueWrite(config)),
            "control": In(QueueControl(config)),
            "descriptors": In(DescriptorPort(config)),
            "read": Out(ReadPort(config)),
            "faults": Out(queue_fault_stream(config)),
        }
        if recycling:
            members |= {
                "pooled": In(config.queues),
                "wanted": In(config.queues),
                "fills": Out(stream.Signature(ReturnedBuffer(config))),
                "supply": In(stream.Signature(SuppliedBuffer(config))),
                "supplying": In(config.queues),
            }
        super().__init__(members)

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
        live, takes = Signal(config.queues), Signal()
        taken = Signal(data.ArrayLayout(INDEX_BITS, config.queues))
        take, port = self.descriptors.take, self.descriptors
        for inner, outer in (
            (faults.faults, self.faults),
            (posted.queue_write, self.queue_write),
            (requests.queue_write, self.queue_write),
            (requests.command, self.read.command),
            (arrivals.beats, self.read.data),
        ):
            wiring.connect(m, inner, wiring.flipped(outer))
        m.d.comb += [
            live.eq(self.control.enable & ~faults.failed),
            *(block.live.eq(live) for block in (posted, arrivals)),
            *(block.clear.eq(self.control.clear) for block in (posted, requests, faults)),
            *(block.taken.eq(taken) for block in (posted, requests)),
            requests.posted.eq(posted.posted),
            fetches.r_en.eq(self.read.data.valid & self.read.data.payload.last),
            arrivals.queue.eq(fetches.r_data),
            requests.finish.eq(arrivals.finish),
            requests.finish_queue.eq(arrivals.finish_queue),
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
        ]
        with m.If(takes):
            m.d.sync += taken[take.queue].eq(taken[take.queue] + take.count)
        if self._recycling:
            self._recycle(m, live, takes, taken, arrivals)
        else:
            wiring.connect(m, arrivals.arrived, wiring.flipped(port.arrived))
            m.d.comb += [takes.eq(take.strobe), requests.live.eq(live), self.control.busy.eq(requests.busy)]
            m.d.sync += port.fetching.eq(live & (requests.busy | requests.due))
        for q in range(config.queues):
            with m.If(self.control.clear[q]):
                m.d.sync += taken[q].eq(0)
        self._cache(m)
        return m

    def _recycle(self, m: Module, live: Signal, takes: Signal, taken: Signal, arrivals: DescriptorArrivals) -> None:
        """Part fetched fills from fetched descriptors, and put what is supplied among these."""
        m.submodules.fills = fills = PooledFills(self._config)
        requests, port, supply = self._requests, self.descriptors, self.supply
        wiring.connect(m, arrivals.arrived, fills.fetched)
        wiring.connect(m, fills.fills, wiring.flipped(self.fills))
        kept, left = fills.kept, fills.left
        m.d.comb += [
            fills.pooled.eq(self.pooled),
            fills.wanted.eq(self.wanted),
            fills.issued.eq(requests.issued),
            fills.issued_queue.eq(requests.issued_queue),
            fills.finish.eq(requests.finish),
            fills.finish_queue.eq(requests.finish_queue),
            requests.live.eq(live & fills.fetches),
            self.control.busy.eq(requests.busy | fills.busy),
            takes.eq(port.take.strobe & ~self.pooled.bit_select(port.take.queue, 1)),
            supply.ready.eq(~kept.strobe),
            port.arrived.strobe.eq(kept.strobe | supply.valid),
            port.arrived.queue.eq(Mux(kept.strobe, kept.queue, supply.payload.queue)),
            port.arrived.entry.eq(Mux(kept.strobe, kept.entry, supply.payload.entry)),
        ]
        fetching = requests.busy | requests.due
        m.d.sync += port.fetching.eq(live & ((self.pooled & self.supplying) | (~self.pooled & fetching)))
        with m.If(left.strobe):
            m.d.sync += taken[left.queue].eq(taken[left.queue] + 1)

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
