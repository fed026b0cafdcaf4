# SPDX-License-Identifier: BSD-2-Clause
"""What cocotb runs inside the simulator."""

from typing import Any

import cocotb

from sim.backends import verilator


@cocotb.test()
async def job(dut: Any) -> None:
    """The job of :func:`sim.backends.verilator.run`."""
    await verilator.serve(dut.wake)
