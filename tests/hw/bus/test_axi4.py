# SPDX-License-Identifier: BSD-2-Clause
"""What AXI4 says about a burst."""

import random
from typing import Any

from amaranth import Module, Signal
from amaranth.sim import Simulator

from hw.bus.axi4 import AddressChannel, crosses_page

PAGE = 4096


def test_a_burst_crosses_its_page_where_its_last_byte_lies_beyond() -> None:
    """Aligned or not, of every size and length."""
    rng = random.Random(1)
    burst, crosses = Signal(AddressChannel(64, 1)), Signal()
    m = Module()
    m.d.comb += crosses.eq(crosses_page(burst))
    seen = set()

    async def bench(ctx: Any) -> None:
        for _ in range(3000):
            size, beats = rng.randrange(8), rng.choice((1, 2, rng.randrange(1, 257)))
            address = (
                rng.randrange(1 << 48) * PAGE + rng.choice((0, PAGE - (beats << size), rng.randrange(PAGE))) % PAGE
            )
            ctx.set(burst, {"addr": address, "len": beats - 1, "size": size})
            await ctx.delay(1e-9)
            start = address >> size << size
            expected = start // PAGE != (start + (beats << size) - 1) // PAGE
            assert ctx.get(crosses) == expected, f"{beats} beats of {1 << size} bytes at {address:#x}"
            seen.add((size, expected))

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
    assert len(seen) == 16
