# SPDX-License-Identifier: BSD-2-Clause
"""Which walks there are, who waits for them, and what they found."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import IommuConfig
from hw.iommu.interfaces import (
    LOOKUP_CYCLES,
    ClaimSignature,
    FenceSignature,
    WalkRequest,
    WalkResult,
    WalkSignature,
)
from hw.iommu.walk_state import FinishSignature, WalkStart, walk_starts

ASK_CYCLES = LOOKUP_CYCLES + 1  #: from a miss that was not taken to its next try
CLAIM_BITS = 8  #: of the count of a walk's claims; a miss that would overflow it is asked again


class WalkTable(wiring.Component):
    """Takes misses on as walks, shares walks among equal misses, and keeps results until nobody wants them.

    One asker a cycle is answered in the cycle of its request; turns rotate among those who ask. Its miss joins an equal
    walk that is neither finished nor poisoned, or takes a free walk, which is offered at ``start`` from the next cycle
    on, in order; or it is not taken. The last free walk is kept for an asker whose turn comes first and who was not
    taken within ``ASK_CYCLES``: one that asks every few cycles could otherwise find it gone forever. A walk is
    *poisoned* by an invalidation offered while it exists: who asks later than that must not get what it found.

    A prefetch is answered only in a cycle in which nobody else asks, begins no walk where the last free one is kept,
    and makes no claim; whoever misses later joins its walk like any other. As nobody waits for such a walk, ``fence``
    tells while it is under way.

    A walk is free again in the second cycle after it is finished and its last claim given back, whichever is later. A
    result can be read from the cycle after ``finish``.

    Parameters
    ----------
    askers : who miss, and who hold claims, one of each

    Ports
    -----
    fence : of walks begun by a prefetch, see :class:`hw.iommu.interfaces.FenceSignature`
    askers, claims : see :class:`hw.iommu.interfaces.WalkSignature` and ``ClaimSignature``
    invalidating : an invalidation is offered to the caches in this cycle
    start : walks to be done
    finish : a walk's end
    """

    def __init__(self, config: IommuConfig, askers: int = 3):
        if not isinstance(askers, int) or isinstance(askers, bool):
            raise TypeError(f"Number of askers must be an integer, not {askers!r}")
        if askers < 1:
            raise ValueError(f"Number of askers must be at least 1, not {askers!r}")
        self._config = config
        super().__init__(
            {
                "askers": In(WalkSignature(config)).array(askers),
                "claims": In(ClaimSignature(config)).array(askers),
                "fence": In(FenceSignature()),
                "invalidating": In(1),
                "start": Out(walk_starts(config)),
                "finish": In(FinishSignature(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        walks = self._config.walks
        requests = [Signal(WalkRequest, name=f"request_{walk}") for walk in range(walks)]
        counts = [Signal(CLAIM_BITS, name=f"claims_{walk}") for walk in range(walks)]
        active, finished, poisoned = Signal(walks), Signal(walks), Signal(walks)

        wanted, asked, taken, yields = Signal(WalkRequest), Signal(), Signal(), Signal()
        prefetch = Signal()
        prefetched, colors = Signal(walks), Signal(walks)
        m.d.comb += [
            busy.eq((active & prefetched & Mux(colors_of, colors, ~colors)).any())
            for colors_of, busy in enumerate(self.fence.busy)
        ]
        self._choose(m, wanted, asked, taken, yields, prefetch)
        joinable, free, full = Signal(walks), Signal(walks), Signal(walks)
        walk = Signal(range(walks))
        for index in range(walks):
            shared = active[index] & ~finished[index] & ~poisoned[index] & ~self.invalidating
            m.d.comb += [
                joinable[index].eq(shared & (requests[index].as_value() == wanted.as_value())),
                free[index].eq(~active[index]),
                full[index].eq(counts[index].all()),
            ]
        for index in reversed(range(walks)):
            with m.If(Mux(joinable.any(), joinable[index], free[index])):
                m.d.comb += walk.eq(index)
        joins, begins = Signal(), Signal()
        m.d.comb += [
            joins.eq(asked & joinable.any() & ~(joinable & full).any()),
            begins.eq(asked & ~joinable.any() & free.any() & ~(yields & (free & (free - 1) == 0))),
            taken.eq(joins | begins),
        ]
        for asker in self.askers:
            m.d.comb += asker.walk.eq(walk)

        new = Signal(WalkStart(self._config))
        m.submodules.starts = starts = SyncFIFO(width=len(new.as_value()), depth=walks)
        m.d.comb += [
            new.walk.eq(walk),
            new.request.eq(wanted),
            starts.w_en.eq(begins),
            starts.w_data.eq(new),
            self.start.valid.eq(starts.r_rdy),
            self.start.payload.eq(starts.r_data),
            starts.r_en.eq(self.start.ready),
        ]

        for index in range(walks):
            claimed = taken & ~prefetch & (walk == index)
            released = sum(claim.release & (claim.look == index) for claim in self.claims)
            m.d.sync += counts[index].eq(counts[index] + claimed - released)
            with m.If(self.finish.strobe & (self.finish.walk == index)):
                m.d.sync += finished[index].eq(1)
            with m.If(self.invalidating):
                m.d.sync += poisoned[index].eq(1)
            # A free walk is not finished: who takes it looks at ``finished`` from the same cycle on.
            with m.If(finished[index] & (counts[index] == 0)):
                m.d.sync += [active[index].eq(0), finished[index].eq(0)]
            with m.If(begins & (walk == index)):
                m.d.sync += [
                    requests[index].eq(wanted),
                    active[index].eq(1),
                    finished[index].eq(0),
                    poisoned[index].eq(self.invalidating),
                    prefetched[index].eq(prefetch),
                    colors[index].eq(self.fence.color),
                ]

        m.submodules.results = results = Memory(shape=WalkResult, depth=walks, init=[])
        write = results.write_port()
        m.d.comb += [
            write.addr.eq(self.finish.walk),
            write.data.eq(self.finish.result),
            write.en.eq(self.finish.strobe),
        ]
        for claim in self.claims:
            read = results.read_port(domain="comb")
            m.d.comb += [read.addr.eq(claim.look), claim.result.eq(read.data), claim.finished.eq(finished)]
        return m

    def _choose(self, m: Module, wanted: Any, asked: Signal, taken: Signal, yields: Signal, prefetch: Signal) -> None:
        """``wanted`` is the miss whose turn it is; its asker is told whether it is ``taken``, and is then the last in
        turn. It ``yields`` if another one before it in turn was not taken of late. A ``prefetch`` changes no turns."""
        count = len(self.askers)
        misses = Cat(asker.request & ~asker.prefetch for asker in self.askers)
        turn = Signal(range(count))
        waits = [Signal(range(ASK_CYCLES + 1), name=f"asker_{index}_waits") for index in range(count)]
        for asker, cycles in zip(self.askers, waits, strict=True):
            with m.If(asker.request & ~asker.prefetch):
                m.d.sync += cycles.eq(Mux(asker.taken, 0, ASK_CYCLES))
            with m.Elif(cycles != 0):
                m.d.sync += cycles.eq(cycles - 1)
        with m.Switch(turn):
            for first in range(count):
                with m.Case(first):
                    order = [(first + offset) % count for offset in range(count)]
                    for position, index in enumerate(order):
                        asker = self.askers[index]
                        with (m.If if position == 0 else m.Elif)(misses[index]):
                            earlier = (waits[each] != 0 for each in order[:position])
                            m.d.comb += [
                                asked.eq(1),
                                wanted.eq(asker.wanted),
                                asker.taken.eq(taken),
                                yields.eq(Cat(*earlier).any()),
                            ]
                            with m.If(taken):
                                m.d.sync += turn.eq((index + 1) % count)
        with m.If(~misses.any()):
            for asker in reversed(self.askers):
                with m.If(asker.request):
                    m.d.comb += [
                        asked.eq(1),
                        prefetch.eq(1),
                        wanted.eq(asker.wanted),
                        asker.taken.eq(taken),
                        yields.eq(Cat(cycles != 0 for cycles in waits).any()),
                    ]
