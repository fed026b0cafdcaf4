# SPDX-License-Identifier: BSD-2-Clause
"""Joining looks at what payloads mean, not at their width alone."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream

from hw.bus.join import join


def test_equal_shapes_are_joined():
    signature = stream.Signature(data.StructLayout({"a": 3, "b": 5}))
    m = Module()
    join(m, signature.create(path=("source",)), signature.flip().create(path=("sink",)))


def test_equal_widths_of_other_layouts_are_refused():
    m = Module()
    source = stream.Signature(data.StructLayout({"a": 3, "b": 5})).create(path=("source",))
    sink = stream.Signature(data.StructLayout({"a": 5, "b": 3})).flip().create(path=("sink",))
    with pytest.raises(TypeError, match="Member payload is StructLayout.*'a': 3.* on one side and .*'a': 5"):
        join(m, source, sink)


def test_ways_to_write_a_plain_shape_are_one():
    m = Module()
    source = stream.Signature(range(16)).create(path=("source",))
    join(m, source, stream.Signature(4).flip().create(path=("sink",)))
