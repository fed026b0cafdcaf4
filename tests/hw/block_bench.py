# SPDX-License-Identifier: BSD-2-Clause
"""What benches of a block that a test drives by method calls have in common."""

from collections.abc import Callable
from typing import Any

from amaranth.sim import Simulator


class BlockBench:
    """Simulates ``dut`` for as long as a test's coroutine runs. Subclasses set ``dut`` and add the calls that drive it.

    Attributes
    ----------
    ctx : of the simulation, while it runs
    """

    dut: Any
    ctx: Any

    def run(self, test: Callable[[Any], Any]) -> None:
        """``test`` gets the bench, after :meth:`set_up`."""

        async def testbench(ctx: Any) -> None:
            self.ctx = ctx
            await self.set_up()
            await test(self)

        sim = Simulator(self.dut)
        sim.add_clock(1e-6)
        for stand_in in self.stand_ins():
            sim.add_testbench(stand_in, background=True)
        sim.add_testbench(testbench)
        sim.run()

    async def set_up(self) -> None:
        """What is done before a test."""

    def stand_ins(self) -> list[Callable[[Any], Any]]:
        """Testbenches of the block's neighbours."""
        return []
