# SPDX-License-Identifier: BSD-2-Clause
"""Connecting interfaces whose payloads mean the same."""

from typing import Any

from amaranth import Module
from amaranth.hdl import Shape, ShapeCastable
from amaranth.lib.wiring import connect


def join(m: Module, source: Any, sink: Any) -> None:
    """:func:`amaranth.lib.wiring.connect`, which looks at widths alone, for interfaces whose members have the same
    shapes; ``TypeError`` that names the member otherwise."""
    shapes = [
        {path: _plain(member.shape) for path, member, _ in interface.signature.flatten(interface)}
        for interface in (source, sink)
    ]
    for path, shape in shapes[0].items():
        if shapes[1].get(path) != shape:
            name = ".".join(map(str, path))
            raise TypeError(f"Member {name} is {shape!r} on one side and {shapes[1].get(path)!r} on the other")
    connect(m, source, sink)


def _plain(shape: Any) -> Any:
    """One form for all ways to write a shape without fields."""
    return shape if isinstance(shape, ShapeCastable) else Shape.cast(shape)
