# SPDX-License-Identifier: BSD-2-Clause
"""Values that travel beside a pipeline."""

from amaranth.hdl import Module, Signal


def delay(m: Module, value, cycles: int):
    """``value`` as it was ``cycles`` ago; of a view, its view."""
    for cycle in range(cycles):
        later = Signal.like(value, name=f"delayed_{cycle}")
        m.d.sync += later.eq(value)
        value = later
    return value
