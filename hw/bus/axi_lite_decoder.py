# SPDX-License-Identifier: BSD-2-Clause
"""AXI4-Lite from one manager to several subordinates, by address."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth import Array, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import Response
from hw.bus.axi_lite import AXILiteSignature


@dataclass(frozen=True)
class Region:
    """Addresses of one subordinate.

    Attributes
    ----------
    base : first address, a multiple of the region's size
    addr_width : bits of an address inside of it
    """

    base: int
    addr_width: int

    def __post_init__(self) -> None:
        for name, low, high in (("base", 0, (1 << 64) - 1), ("addr_width", 3, 64)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Region {name} must be an integer, not {value!r}")
            if not low <= value <= high:
                raise ValueError(f"Region {name} must be in {low}..{high}, not {value!r}")
        if self.base % (1 << self.addr_width):
            raise ValueError(f"Region base must be a multiple of 2**{self.addr_width}, not {self.base!r}")

    def contains(self, address: Value) -> Value:
        """Whether an address is in it."""
        return address[self.addr_width :] == self.base >> self.addr_width


class AXILiteDecoder(wiring.Component):
    """Hands each access to the subordinate whose region its address is in, with the address inside of that region.

    An access to no region is answered DECERR, and nobody sees it. Writes and reads are independent of each other;
    responses of each come in the order of their requests, whichever subordinate gives them. Addresses and data pass in
    the same cycle, responses too. A write's address and data are taken together: they wait for each other, as IHI 0022,
    A3.3.1 allows, and for room among ``outstanding`` accesses without response.

    Parameters
    ----------
    addr_width : bits of the manager's address
    regions : of the subordinates, by name; they do not overlap
    outstanding : bound on writes, and on reads, without response

    Ports
    -----
    manager : In AXILiteSignature(addr_width), from the manager
    each region's name : Out AXILiteSignature, to its subordinate
    """

    def __init__(self, addr_width: int, regions: Mapping[str, Region], *, outstanding: int = 32):
        if not regions:
            raise ValueError("A decoder needs at least one region")
        if not isinstance(outstanding, int) or isinstance(outstanding, bool) or outstanding < 1:
            raise ValueError(f"outstanding must be a positive integer, not {outstanding!r}")
        manager = AXILiteSignature(addr_width)
        last = 0
        for name, region in sorted(regions.items(), key=lambda item: item[1].base):
            if region.base < last:
                raise ValueError(f"Region {name} at {region.base:#x} overlaps the one before it")
            last = region.base + (1 << region.addr_width)
            if last > 1 << addr_width:
                raise ValueError(f"Region {name} must end at or before 2**{addr_width}, not {last:#x}")
        self.regions = dict(regions)
        self.outstanding = outstanding
        super().__init__(
            {
                "manager": In(manager),
                **{name: Out(AXILiteSignature(region.addr_width)) for name, region in regions.items()},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m: Module) -> None:
        manager = self.manager
        target, order = self._route(m, "write", manager.aw.payload.addr)
        address_taken, data_taken = Signal(), Signal()  # of the write on offer, while the other half is not
        offered, take = Signal(), Signal()
        taking = []
        for number, (name, region) in enumerate(self.regions.items()):
            bus = getattr(self, name)
            m.d.comb += [
                bus.aw.payload.addr.eq(manager.aw.payload.addr[: region.addr_width]),
                bus.w.payload.eq(manager.w.payload),
                bus.aw.valid.eq(offered & (target == number) & ~address_taken),
                bus.w.valid.eq(offered & (target == number) & ~data_taken),
            ]
            taking.append((address_taken | bus.aw.ready) & (data_taken | bus.w.ready))
        m.d.comb += [
            offered.eq(manager.aw.valid & manager.w.valid & order.w_rdy),
            take.eq(offered & Array([*taking, Const(1)])[target]),
            manager.aw.ready.eq(take),
            manager.w.ready.eq(take),
            order.w_en.eq(take),
        ]
        accepted = Array([*(getattr(self, name).aw.ready for name in self.regions), Const(1)])[target]
        stored = Array([*(getattr(self, name).w.ready for name in self.regions), Const(1)])[target]
        with m.If(offered):
            m.d.sync += [
                address_taken.eq(~take & (address_taken | accepted)),
                data_taken.eq(~take & (data_taken | stored)),
            ]
        self._answer(m, order, "b", {"resp": Response.DECERR})

    def _read(self, m: Module) -> None:
        manager = self.manager
        target, order = self._route(m, "read", manager.ar.payload.addr)
        for number, (name, region) in enumerate(self.regions.items()):
            bus = getattr(self, name)
            m.d.comb += [
                bus.ar.payload.addr.eq(manager.ar.payload.addr[: region.addr_width]),
                bus.ar.valid.eq(manager.ar.valid & order.w_rdy & (target == number)),
            ]
        ready = Array([*(getattr(self, name).ar.ready for name in self.regions), Const(1)])[target]
        m.d.comb += [
            manager.ar.ready.eq(ready & order.w_rdy),
            order.w_en.eq(manager.ar.valid & manager.ar.ready),
        ]
        self._answer(m, order, "r", {"data": 0, "resp": Response.DECERR})

    def _route(self, m: Module, name: str, address: Value) -> tuple[Signal, SyncFIFO]:
        """The number of an address's region, or how many there are; and those of the accesses without response."""
        target = Signal(range(len(self.regions) + 1), init=len(self.regions), name=f"{name}_target")
        order = SyncFIFO(width=len(target), depth=self.outstanding)
        m.submodules[f"{name}_order"] = order
        for number, region in enumerate(self.regions.values()):
            with m.If(region.contains(address)):
                m.d.comb += target.eq(number)
        m.d.comb += order.w_data.eq(target)
        return target, order

    def _answer(self, m: Module, order: SyncFIFO, channel: str, error: Mapping[str, Any]) -> None:
        """Hand on the response of the oldest access; ``error`` if no subordinate has it."""
        answer = getattr(self.manager, channel)
        shape: data.Layout = answer.payload.shape()
        with m.Switch(order.r_data):
            for number, name in enumerate(self.regions):
                with m.Case(number):
                    source = getattr(getattr(self, name), channel)
                    m.d.comb += [
                        answer.payload.eq(source.payload),
                        answer.valid.eq(order.r_rdy & source.valid),
                        source.ready.eq(order.r_rdy & answer.ready),
                    ]
            with m.Default():
                m.d.comb += [answer.payload.eq(shape.const(error)), answer.valid.eq(order.r_rdy)]
        m.d.comb += order.r_en.eq(answer.valid & answer.ready)
