# SPDX-License-Identifier: BSD-2-Clause
"""The control part as a whole: its queues side by side, and reset in the middle of everything."""

import random

import pytest

from hw.abi.codec import Codec
from hw.abi.iommu import AtsCommand, Event
from hw.abi.iommu_registers import iommu_registers
from tests.hw.iommu.control_bench import DATA, ControlBench
from tests.hw.iommu.test_command_queue import fence, vma
from tests.hw.iommu.test_fault_queue import report

R = iommu_registers()
ATS = Codec(AtsCommand)


@pytest.mark.parametrize("seed", range(3))
def test_queues_run_side_by_side(seed):
    """Fault records and fences' data share the port with fetches: all arrive where they belong."""
    rng = random.Random(seed)

    async def run(b):
        await b.faults_on(log2size=6, fie=1)
        await b.commands_on(log2size=4, cie=1)
        await b.set("icvec", civ=1, fiv=2)
        for batch in range(6):
            start = 2 * batch
            await b.execute(
                vma(av=1, address=batch), fence(av=1, data=100 + batch, address=(DATA >> 2) + batch), start=start
            )
            for n in range(4):
                await b.report(rng.randrange(2), **report(4 * batch + n))
        await b.wait("cqh", "index", 12)
        await b.wait("fqt", "index", 24)
        assert sorted(b.record(n).did for n in range(24)) == list(range(24))
        data = [int.from_bytes(b.memory.data[DATA + 4 * n :][:4], "little") for n in range(6)]
        assert data == [100 + n for n in range(6)]
        assert b.ctx.get(b.dut.interrupts) == 0b100

    ControlBench(seed=seed, stall=0.3, latency=(1, 40), taking=0.6).run(run)


@pytest.mark.parametrize("seed", range(4))
def test_after_a_reset_all_is_as_after_power_on(seed):
    rng = random.Random(seed)

    async def fill(b):
        """Get everything under way."""
        await b.faults_on(log2size=3, fie=1)
        await b.commands_on(log2size=4, cie=1)
        await b.set("ddtp", iommu_mode=2, ppn=3)
        await b.set("iohpmevt1", eventid=Event.FAULT.value)
        await b.set("icvec", civ=3, fiv=2)
        await b.set("iocountinh", cy=1)
        b.ctx.set(b.dut.events.faults[0], 1)
        await b.execute(*[vma() for _ in range(5)], ATS.pack(opcode=4), fence(av=1, address=DATA >> 2), fence(func3=1))
        for n in range(4):
            await b.report(0, **report(n))
        await b.set("tr_req_ctl", go_busy=1, did=5)
        await b.ticks(rng.randrange(100))
        b.ctx.set(b.dut.events.faults[0], 0)

    async def run(b):
        await fill(b)
        await b.reset()
        for name in R:
            if name not in ("capabilities", "iohpmcycles"):
                assert await b.get(name) == R[name].reset, name
        await b.ticks(200)
        assert b.memory.idle
        assert b.ctx.get(b.dut.interrupts) == 0
        assert b.ctx.get(b.dut.invalidations.valid) == b.ctx.get(b.dut.invalidate.valid) == 0
        b.invalidations.clear()
        await b.faults_on(log2size=3)
        await b.commands_on(log2size=4)
        await b.report(1, **report(77))
        await b.execute(vma(av=1, address=9), fence(av=1, data=8, address=DATA >> 2))
        await b.wait("cqh", "index", 2)
        await b.wait("fqt", "index", 1)
        assert [payload.page for _, payload in b.invalidations] == [9]
        assert b.memory.data[DATA] == 8
        assert b.record(0).did == 77

    ControlBench(seed=seed, stall=0.2, latency=(10, 50), taking=0.5).run(run)
