# SPDX-License-Identifier: BSD-2-Clause
"""Flat ports named as in AXI, and how they join the streams inside.

A channel's ports are its prefix and the field's name (``m_axi_aw`` and ``addr``), with ``valid`` and ``ready``. What of
AXI has no stream inside is added at managers as a constant, and taken and ignored at subordinates.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.abi.rings import Sideband
from hw.bus.axi_lite import DATA_WIDTH

BURST_INCR = 0b01
#: Normal, non-cacheable, non-bufferable: the response comes from the destination, which the order of completions after
#: their data rests on (IHI 0022, A4.4).
CACHE = 0b0010
#: Unprivileged, non-secure, data.
PROT = 0b010

_ADDRESS = ("id", "addr", "len", "size", "lock")

Pins = dict[str, wiring.Member]


INVALIDATION_REQUEST = {name: field.width for name, field in InvalidationRequest.as_shape()}
INVALIDATION_COMPLETION = {name: field.width for name, field in InvalidationCompletion.as_shape()}


def channel_pins(prefix: str, fields: Mapping[str, int], *, source: bool) -> Pins:
    """Ports of a channel: its fields with their widths, ``valid`` and ``ready``; ``source``: it leaves the core."""
    payload, ready = (Out, In) if source else (In, Out)
    pins = {prefix + name: payload(width) for name, width in fields.items()}
    return pins | {f"{prefix}valid": payload(1), f"{prefix}ready": ready(1)}


def axi4_pins(prefix: str, data_width: int, id_width: int, *, manager: bool = True, user: bool = True) -> Pins:
    """Ports of AXI4, with or without AxUSER (:class:`hw.abi.rings.Sideband`)."""
    address = {"id": id_width, "addr": 64, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3}
    address |= {"qos": 4, "region": 4}
    if user:
        address |= {"user": Sideband.as_shape().size}
    pins = {}
    for channel, fields, from_manager in (
        ("aw", address, True),
        ("w", {"data": data_width, "strb": data_width // 8, "last": 1}, True),
        ("b", {"id": id_width, "resp": 2}, False),
        ("ar", address, True),
        ("r", {"id": id_width, "data": data_width, "resp": 2, "last": 1}, False),
    ):
        pins |= channel_pins(f"{prefix}_{channel}", fields, source=manager is from_manager)
    return pins


def axi_lite_pins(prefix: str, addr_width: int) -> Pins:
    """Ports of an AXI4-Lite subordinate."""
    address = {"addr": addr_width, "prot": 3}
    pins = {}
    for channel, fields, source in (
        ("aw", address, False),
        ("w", {"data": DATA_WIDTH, "strb": DATA_WIDTH // 8}, False),
        ("b", {"resp": 2}, True),
        ("ar", address, False),
        ("r", {"data": DATA_WIDTH, "resp": 2}, True),
    ):
        pins |= channel_pins(f"{prefix}_{channel}", fields, source=source)
    return pins


def join_source(m: Module, core: wiring.Component, prefix: str, stream: Any, fields: Iterable[str]) -> None:
    """A stream inside leaves by a channel of the core."""
    m.d.comb += [
        getattr(core, f"{prefix}valid").eq(stream.valid),
        stream.ready.eq(getattr(core, f"{prefix}ready")),
    ]
    m.d.comb += [getattr(core, prefix + field).eq(stream.payload[field]) for field in fields]


def join_sink(m: Module, core: wiring.Component, prefix: str, stream: Any, fields: Iterable[str]) -> None:
    """A stream inside comes in by a channel of the core."""
    m.d.comb += [
        stream.valid.eq(getattr(core, f"{prefix}valid")),
        getattr(core, f"{prefix}ready").eq(stream.ready),
    ]
    m.d.comb += [stream.payload[field].eq(getattr(core, prefix + field)) for field in fields]


def join_axi4_manager(m: Module, core: wiring.Component, prefix: str, axi: Any, *, user: bool = True) -> None:
    """AXI4 of a manager inside."""
    for channel, stream in (("aw", axi.aw), ("ar", axi.ar)):
        name = f"{prefix}_{channel}"
        join_source(m, core, name, stream, (*_ADDRESS, "user") if user else _ADDRESS)
        m.d.comb += [
            getattr(core, f"{name}burst").eq(BURST_INCR),
            getattr(core, f"{name}cache").eq(CACHE),
            getattr(core, f"{name}prot").eq(PROT),
        ]
    join_source(m, core, f"{prefix}_w", axi.w, ("data", "strb", "last"))
    join_sink(m, core, f"{prefix}_b", axi.b, ("id", "resp"))
    join_sink(m, core, f"{prefix}_r", axi.r, ("id", "data", "resp", "last"))


def join_axi4_subordinate(m: Module, core: wiring.Component, prefix: str, axi: Any) -> None:
    """AXI4 of a subordinate inside, with AxUSER."""
    for channel, stream in (("aw", axi.aw), ("ar", axi.ar)):
        join_sink(m, core, f"{prefix}_{channel}", stream, (*_ADDRESS, "user"))
    join_sink(m, core, f"{prefix}_w", axi.w, ("data", "strb", "last"))
    join_source(m, core, f"{prefix}_b", axi.b, ("id", "resp"))
    join_source(m, core, f"{prefix}_r", axi.r, ("id", "data", "resp", "last"))


def join_axi_lite(m: Module, core: wiring.Component, prefix: str, bus: Any) -> None:
    """AXI4-Lite of a subordinate inside."""
    join_sink(m, core, f"{prefix}_aw", bus.aw, ("addr",))
    join_sink(m, core, f"{prefix}_w", bus.w, ("data", "strb"))
    join_source(m, core, f"{prefix}_b", bus.b, ("resp",))
    join_sink(m, core, f"{prefix}_ar", bus.ar, ("addr",))
    join_source(m, core, f"{prefix}_r", bus.r, ("data", "resp"))
