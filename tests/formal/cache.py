# SPDX-License-Identifier: BSD-2-Clause
"""The IOTLB's cache never answers with an entry that an invalidation has dropped."""

from typing import Any

from amaranth import Module, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume

from hw.config import CacheConfig, IommuConfig
from hw.iommu.cache import Cache
from hw.iommu.interfaces import PageSize
from hw.iommu.tlb import LeafRules


class _Marked(LeafRules):
    """The rules of the IOTLB for entries that hold a mark instead of a translation, so that an answer tells from which
    one it came."""

    def __init__(self, config: IommuConfig):
        super().__init__(config, PageSize.SIZE_4K)
        self.content = 1


class CacheProof(Cache):
    """An array of the IOTLB, watched with the eyes of one tag, whichever it is.

    Everything else is free: fills, lookups with any key, resets at any time, contents of memory before the first
    sweep, and invalidations, which hold until taken.

    Proven of every tag: once an invalidation that covers it is taken, or after reset, no lookup presented later
    answers with an entry of this tag, until it is filled again; and no two entries of its set would answer one lookup.
    """

    def __init__(self, *, replacement: str, index: str, shape: CacheConfig):
        config = IommuConfig(tlb_4k=shape, tlb_index=index)
        super().__init__(_Marked(config), shape, replacement=replacement, lookups=1)

    def elaborate(self, platform: Any) -> Module:
        m = super().elaborate(platform)
        rules, port, offered = self._rules, self.lookups[0], self.invalidation
        tag, key = Signal(rules.tag), Signal(rules.key)
        m.d.comb += [
            Value.cast(tag).eq(AnyConst(len(Value.cast(tag)))),
            Value.cast(key).eq(AnyConst(len(Value.cast(key)))),
            Assume(self.fill.content == (Value.cast(self.fill.tag) == Value.cast(tag))),
        ]

        # Invalidations hold until taken; a lookup's set is that of its key.
        held, payload = Signal(), Signal.like(Value.cast(offered.payload))
        looked = Signal.like(port.set)
        m.d.sync += [
            held.eq(offered.valid & ~offered.ready),
            payload.eq(Value.cast(offered.payload)),
            looked.eq(port.set),
        ]
        with m.If(held):
            m.d.comb += [Assume(offered.valid), Assume(payload == Value.cast(offered.payload))]
        m.d.comb += Assume(looked == rules.index(port.key.page))

        gone = Signal(4, init=0b1111)  # in this cycle, and in those of the lookup that is answered now
        m.d.sync += gone[1:].eq(gone)
        with m.If(self.fill.strobe & self.fill.content):
            m.d.sync += gone[0].eq(0)
        with m.Elif(
            offered.valid & offered.ready & rules.concerns(offered.payload) & rules.covers(tag, offered.payload)
        ):
            m.d.sync += gone[0].eq(1)
        m.d.comb += Assert(~(port.hit & port.content & gone[1:].all()))

        # Invariants of the rows: what induction cannot find by itself.
        for index in range(self._shape.sets):
            read = m.submodules.rows.read_port(domain="comb")
            m.d.comb += read.addr.eq(index)
            answers = Signal(self._shape.ways, name=f"answers_{index}")
            for way, row in enumerate(read.data):
                marked = Value.cast(row.tag) == Value.cast(tag)
                m.d.comb += [
                    answers[way].eq(row.valid & rules.matches(row.tag, key)),
                    Assert(~(self.clean & row.valid) | (rules.set_of(row.tag) == index)),
                    Assert(~(self.clean & row.valid) | (row.content == marked)),
                    Assert(~(self.clean & row.valid & row.content & gone[0])),
                ]
            m.d.comb += Assert(~self.clean | ((answers & (answers - 1)) == 0))
        return m
