# SPDX-License-Identifier: BSD-2-Clause
"""Device contexts that were valid when they were read."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from hw.config import IommuConfig
from hw.iommu.interfaces import INVALIDATIONS, Context, ContextFill, ContextLookup, InvalidationKind
from hw.iommu.replacement import lowest


class ContextCache(wiring.Component):
    """A fully associative cache of device contexts; the oldest gives way.

    Each lookup is answered a cycle later (:class:`hw.iommu.interfaces.ContextLookup`). A fill is found by lookups
    presented from the next cycle on, and may come every cycle; it replaces the device's context if there is one. An
    invalidation is taken at once, and a fill in a cycle in which one is offered is dropped.

    Parameters
    ----------
    config : number of contexts
    lookups : lookup ports

    Ports
    -----
    lookups : In, array of :class:`hw.iommu.interfaces.ContextLookup`
    fill : In, :class:`hw.iommu.interfaces.ContextFill`
    invalidation : In, :data:`hw.iommu.interfaces.INVALIDATIONS`
    """

    def __init__(self, config: IommuConfig, *, lookups: int = 3):
        self._config = config
        super().__init__(
            {
                "lookups": In(ContextLookup()).array(lookups),
                "fill": In(ContextFill()),
                "invalidation": In(INVALIDATIONS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = self._config.contexts
        m.submodules.contexts = contexts = Memory(shape=Context, depth=count, init=[])
        valid = Signal(count)
        devices = Signal(data.ArrayLayout(24, count))

        def found(name: str, device_id: Value) -> Signal:
            matching = Signal(count, name=f"{name}_matching")
            for way in range(count):
                m.d.comb += matching[way].eq(valid[way] & (devices[way] == device_id))
            return matching

        for index, port in enumerate(self.lookups):
            matching = found(f"lookup_{index}", port.device_id)
            read = contexts.read_port()
            m.d.comb += [read.addr.eq(_number(matching)), port.context.eq(read.data)]
            m.d.sync += port.hit.eq(matching.any())

        offered = self.invalidation
        m.d.comb += offered.ready.eq(1)
        with m.If(offered.valid & (offered.payload.kind == InvalidationKind.CONTEXT)):
            dropped = found("dropped", offered.payload.device_id)
            m.d.sync += valid.eq(Mux(offered.payload.device_valid, valid & ~dropped, 0))

        oldest = Signal(range(count))
        same = found("fill", self.fill.device_id)
        chosen = Signal(range(count))
        write = contexts.write_port()
        m.d.comb += [
            chosen.eq(Mux(same.any(), _number(same), Mux(valid.all(), oldest, _number(lowest(~valid, count))))),
            write.addr.eq(chosen),
            write.data.eq(self.fill.context),
            write.en.eq(self.fill.strobe & ~offered.valid),
        ]
        with m.If(write.en):
            m.d.sync += [valid.bit_select(chosen, 1).eq(1), devices[chosen].eq(self.fill.device_id)]
            with m.If(~same.any() & valid.all()):
                m.d.sync += oldest.eq(Mux(oldest == count - 1, 0, oldest + 1))
        return m


def _number(one_hot: Value) -> Value:
    """The position of the bit that is on; 0 if none is."""
    bits = (len(one_hot) - 1).bit_length()
    return Cat(Cat(one_hot[way] for way in range(len(one_hot)) if way >> bit & 1).any() for bit in range(bits))
