# SPDX-License-Identifier: BSD-2-Clause
"""Ring entries as software sees them: packing and unpacking derived from the hardware's own layout."""

import struct
from collections import namedtuple
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

_FORMATS = {8: "B", 16: "H", 32: "I", 64: "Q"}


class Codec:
    """Translate between the bytes of a ring entry and its fields.

    The entry's fields are cut into *units*: runs of fields that together fill 8, 16, 32 or 64 aligned bits. Fields that
    are a unit by themselves pack without arithmetic; smaller ones are shifted and masked. ``unpack`` gives a named
    tuple of the top-level fields (nested structures as integers; see :meth:`mask`), ``pack`` takes them by name, zero
    where not given.

    Parameters
    ----------
    layout : subclass of :class:`amaranth.lib.data.Struct`
        Its size must be a multiple of 8 bits.
    """

    def __init__(self, layout: type[data.Struct]) -> None:
        shape = Shape.cast(layout)
        if shape.width % 8:
            raise ValueError(f"Layout {layout.__name__} is {shape.width!r} bits wide, not a whole number of bytes")
        self.name = layout.__name__
        self.size = shape.width // 8
        self._layout = data.StructLayout(dict(_fields(layout)))
        self.fields = {name: (f.offset, Shape.cast(f.shape).width) for name, f in self._layout}
        self._units = _units(self.fields)
        self._struct = struct.Struct("<" + "".join(_FORMATS[width] for _, width, _ in self._units))
        self._whole = all(len(names) == 1 for _, _, names in self._units)
        make_tuple: Any = namedtuple  # a type checker wants literal names, and these come from the layout
        self._tuple = make_tuple(layout.__name__, self.fields)

    def mask(self, *path: str) -> int:
        """The bits of a nested field within its top-level field: ``mask("flags", "phase")``."""
        field = self._layout[path[0]]
        offset, shape = 0, field.shape
        for name in path[1:]:
            inner = data.Layout.cast(shape)[name]
            offset, shape = offset + inner.offset, inner.shape
        return ((1 << Shape.cast(shape).width) - 1) << offset

    def pack(self, **values: int) -> bytes:
        """Bytes of an entry. Raises ``ValueError`` for a value that does not fit and for an unknown field."""
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"{self.name} has no field {name!r}; it has {', '.join(self.fields)}")
            width = self.fields[name][1]
            if not 0 <= int(value) < 1 << width:
                raise ValueError(f"{self.name}.{name} must be in 0..{(1 << width) - 1}, not {value!r}")
        words = []
        for offset, _width, names in self._units:
            word = 0
            for name in names:
                word |= int(values.get(name, 0)) << (self.fields[name][0] - offset)
            words.append(word)
        return self._struct.pack(*words)

    def unpack(self, raw: bytes | bytearray | memoryview) -> Any:
        """Named tuple of the top-level fields."""
        words = self._struct.unpack(raw)
        if self._whole:
            return self._tuple._make(words)
        values = []
        for word, (offset, _width, names) in zip(words, self._units, strict=True):
            for name in names:
                start, width = self.fields[name]
                values.append(word >> (start - offset) & ((1 << width) - 1))
        return self._tuple._make(values)


def _fields(layout: type[data.Struct]) -> list[tuple[str, Any]]:
    return [(name, field.shape) for name, field in data.Layout.cast(layout)]


def _units(fields: dict[str, tuple[int, int]]) -> list[tuple[int, int, list[str]]]:
    """Cut consecutive fields into the smallest aligned words that a struct format has."""
    names = list(fields)
    units = _cut(fields, names)
    if units is None:
        raise ValueError(f"Fields {', '.join(names)} cannot be cut into aligned words of 1, 2, 4 and 8 bytes")
    return units


def _cut(fields: dict[str, tuple[int, int]], names: list[str]) -> list[tuple[int, int, list[str]]] | None:
    """The units of these fields; None where no cut leaves nothing over."""
    if not names:
        return []
    start = fields[names[0]][0]
    for count, name in enumerate(names, 1):
        offset, width = fields[name]
        run = offset + width - start
        if run in _FORMATS and start % run == 0:
            rest = _cut(fields, names[count:])
            if rest is not None:
                return [(start, run, names[:count]), *rest]
    return None
