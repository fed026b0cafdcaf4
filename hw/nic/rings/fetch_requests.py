# SPDX-License-Identifier: BSD-2-Clause
"""Which descriptors are asked for, and when."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.rings import ENTRIES_PER_LINE, ENTRY_BYTES, INDEX_BITS, MAX_RING_ENTRIES
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.in_flight import InFlight
from hw.nic.interfaces import Command, QueueWrite
from hw.nic.queue_register import QueueRegister

_LINE_BITS = exact_log2(ENTRIES_PER_LINE)
_ENTRY_BITS = exact_log2(ENTRY_BYTES)
_RING_BITS = exact_log2(MAX_RING_ENTRIES * ENTRY_BYTES)  #: offset of a byte in a ring


class FetchRequests(wiring.Component):
    """Command the fetches of all queues, in turns.

    A fetch is at most the rest of a 64-byte line, so it crosses neither the ring's end nor the published producer
    index. A queue has at most ``fetch_depth`` descriptors cached and in flight; it fetches while there is room for a
    whole line. Less than the rest of a line is fetched only if the queue has nothing in flight, or fewer than four
    descriptors cached and in flight.

    A command comes at most every fourth cycle, the sixth after ``posted`` moved or room was made. Up to
    ``outstanding_reads`` fetches are under way, from ``issued`` to ``finish``.

    Parameters
    ----------
    config : NicConfig
    base, size : names of the ring's registers in ``register_map(...).queue``

    Members
    -------
    queue_write : register writes
    live, clear : of the queues, as for :class:`hw.nic.rings.posted.PostedIndices`
    posted, taken : of each queue, free-running indices one past the last descriptor posted, and of the first not yet
        taken
    command : stream, to the DMA reader
    issued, issued_queue : a fetch is under way, from the next cycle on
    finish, finish_queue : a fetch is over
    busy : queues with fetches under way, as :class:`hw.nic.in_flight.InFlight` tells it
    due : queues that have descriptors to fetch, and room for a whole line of them
    """

    def __init__(self, config: NicConfig, *, base: str, size: str):
        self._config = config
        self._base = QueueRegister(config, base, width=64)
        self._size = QueueRegister(config, size, width=INDEX_BITS)
        indices = data.ArrayLayout(INDEX_BITS, config.queues)
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "live": In(config.queues),
                "clear": In(config.queues),
                "posted": In(indices),
                "taken": In(indices),
                "command": Out(stream.Signature(Command(config))),
                "issued": Out(1),
                "issued_queue": Out(range(config.queues)),
                "finish": In(1),
                "finish_queue": In(range(config.queues)),
                "busy": Out(config.queues),
                "due": Out(config.queues),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        fetched = Signal(data.ArrayLayout(INDEX_BITS, config.queues))
        self._find(m, fetched)
        m.submodules.arbiter = arbiter = RoundRobin(config.queues)
        m.submodules.in_flight = in_flight = InFlight(config.queues, config.outstanding_reads)
        m.submodules.base, m.submodules.size = base, size = self._base, self._size
        for register in (base, size):
            wiring.connect(m, register.write, wiring.flipped(self.queue_write))
        queue = Signal(range(config.queues))
        pick, sensible = Signal(), Signal()
        room = Signal(range(config.outstanding_reads + 1), init=config.outstanding_reads)
        m.d.comb += [
            arbiter.requests.eq(self.live & self.due),
            arbiter.taken.eq(pick),
            base.reads[0].queue.eq(queue),
            size.reads[0].queue.eq(queue),
            self.issued_queue.eq(queue),
            in_flight.start.eq(self.issued),
            in_flight.start_queue.eq(queue),
            in_flight.start_count.eq(1),
            in_flight.finish.eq(self.finish),
            in_flight.finish_queue.eq(self.finish_queue),
            self.busy.eq(in_flight.busy),
        ]
        m.d.sync += room.eq(room - self.issued + self.finish)

        posted, first, start, mask = (Signal(INDEX_BITS, name=n) for n in ("posted", "first", "start", "mask"))
        taken = Signal(range(2 * config.fetch_depth))
        base_address, low = Signal(64), Signal(_RING_BITS + 1)
        waiting, used = Signal(INDEX_BITS), Signal.like(taken)
        rest, count = Signal(range(ENTRIES_PER_LINE + 1)), Signal(range(ENTRIES_PER_LINE + 1))
        whole = Signal()
        m.d.comb += [
            rest.eq(ENTRIES_PER_LINE - first[:_LINE_BITS]),
            whole.eq(waiting[_LINE_BITS:].any() | (waiting[:_LINE_BITS] >= rest)),
        ]
        with m.If(self.command.ready):
            m.d.sync += self.command.valid.eq(0)
        with m.FSM():
            with m.State("PICK"):
                m.d.comb += pick.eq(1)
                with m.If(arbiter.valid):
                    m.next = "READ"
            with m.State("READ"):
                m.d.sync += [
                    posted.eq(self.posted[queue]),
                    first.eq(fetched[queue]),
                    taken.eq(self.taken[queue]),
                    base_address.eq(base.reads[0].value),
                    mask.eq(size.reads[0].value - 1),
                ]
                m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += [waiting.eq(posted - first), used.eq(first - taken), start.eq(first & mask)]
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += [
                    count.eq(Mux(whole, rest, waiting[: _LINE_BITS + 1])),
                    sensible.eq(
                        (waiting != 0)
                        & _has_room(used, config.fetch_depth)
                        & (whole | (used < ENTRIES_PER_LINE) | ~self.busy.bit_select(queue, 1))
                    ),
                    low.eq(base_address[:_RING_BITS] + (start << _ENTRY_BITS)),
                ]
                m.next = "ISSUE"
            with m.State("ISSUE"):
                goes_on = sensible & self.live.bit_select(queue, 1)
                m.d.comb += [
                    self.issued.eq(goes_on & ~self.command.valid & (room != 0)),
                    pick.eq(~goes_on | self.issued),
                ]
                with m.If(self.issued):
                    m.d.sync += [
                        self.command.valid.eq(1),
                        self.command.payload.queue.eq(queue),
                        self.command.payload.address.eq(
                            Cat(low[:_RING_BITS], (base_address[_RING_BITS:] + low[_RING_BITS])[: 64 - _RING_BITS])
                        ),
                        self.command.payload.length.eq(count << _ENTRY_BITS),
                        fetched[queue].eq(first + count),
                    ]
                with m.If(pick):
                    m.next = "PICK"
                    with m.If(arbiter.valid):
                        m.next = "READ"
        with m.If(pick):
            m.d.sync += queue.eq(arbiter.grant)
        for q in range(config.queues):
            with m.If(self.clear[q]):
                m.d.sync += fetched[q].eq(0)
        return m

    def _find(self, m: Module, fetched: Signal) -> None:
        """Find the queues that have descriptors to fetch, and room for a whole line of them."""
        depth = self._config.fetch_depth
        for q in range(self._config.queues):
            posted, used = Signal(name=f"posted_{q}"), Signal(range(2 * depth), name=f"used_{q}")
            m.d.sync += [posted.eq(self.posted[q] != fetched[q]), used.eq(fetched[q] - self.taken[q])]
            m.d.comb += self.due[q].eq(posted & _has_room(used, depth))


def _has_room(used: Signal, depth: int) -> Value:
    """Whether a whole line fits a cache of ``depth`` descriptors, ``used`` of them in use: at most ``depth``."""
    high = exact_log2(depth)
    return ~(used[high] | (used[_LINE_BITS:high].all() & used[:_LINE_BITS].any()))
