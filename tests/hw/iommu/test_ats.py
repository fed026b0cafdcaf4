# SPDX-License-Identifier: BSD-2-Clause
"""Invalidations of devices: messages, acknowledgements, and fences that wait for them or for their timeout."""

from dataclasses import replace

import pytest

from hw.abi.codec import Codec
from hw.abi.iommu import AtsCommand
from hw.abi.iommu_registers import iommu_registers
from tests.hw.iommu.control_bench import SMALL, ControlBench
from tests.hw.iommu.test_command_queue import fence, vma
from tests.hw.streams import receive, send

ATS = Codec(AtsCommand)
CSR = iommu_registers()["cqcsr"]
TIMEOUT = 400
CONFIG = replace(SMALL, ats_timeout_cycles=TIMEOUT)


def invalidate(device=0x1234, **fields):
    return ATS.pack(opcode=4, rid=device & 0xFFFF, dseg=device >> 16, dsv=device > 0xFFFF, **fields)


async def acknowledge(b, message, device=None):
    device = message.device_id if device is None else device
    await send(b.ctx, b.dut.invalidated, {"tag": message.tag, "device_id": device}, name="acknowledgement")


def test_a_message_says_what_the_command_says():
    async def run(b):
        await b.commands_on()
        await b.execute(
            invalidate(0x561234, pv=1, pid=0x98765, payload=0x123456789ABCD000 | 1 << 11 | 1),
            ATS.pack(opcode=4, rid=0x4321, dseg=0x77, pid=5, payload=0x5000),
        )
        first = await receive(b.ctx, b.dut.invalidate)
        second = await receive(b.ctx, b.dut.invalidate)
        assert (first.device_id, first.process_id_valid, first.process_id) == (0x561234, 1, 0x98765)
        assert (first.everywhere, first.size, first.address) == (1, 1, 0x123456789ABCD)
        assert (second.device_id, second.process_id_valid, second.process_id) == (0x4321, 0, 0)
        assert (second.everywhere, second.size, second.address) == (0, 0, 5)
        assert first.tag != second.tag

    ControlBench(CONFIG).run(run)


def test_a_fence_waits_for_every_acknowledgement():
    async def run(b):
        await b.commands_on()
        await b.execute(invalidate(1), invalidate(2), vma(), fence(), vma())
        messages = [await receive(b.ctx, b.dut.invalidate) for _ in range(2)]
        await b.ticks(30)
        assert await b.get("cqh", "index") == 3  # commands behind go on; the fence does not
        await acknowledge(b, messages[1])
        await b.ticks(30)
        assert await b.get("cqh", "index") == 3
        await acknowledge(b, messages[0], device=9)  # not the one that was asked
        await acknowledge(b, messages[1])  # not asked any more
        await b.ticks(30)
        assert await b.get("cqh", "index") == 3
        await acknowledge(b, messages[0])
        await b.wait("cqh", "index", 5)
        assert await b.get("cqcsr") == CSR.pack(cqen=1, cqon=1)

    ControlBench(CONFIG).run(run)


def test_a_timeout_is_reported_by_the_fence_and_once():
    async def run(b):
        await b.commands_on(cie=1)
        await b.execute(invalidate(1), invalidate(2), fence(wsi=1))
        messages = [await receive(b.ctx, b.dut.invalidate) for _ in range(2)]
        began = b.cycle
        await acknowledge(b, messages[1])
        await b.wait("cqcsr", "cmd_to", 1)
        assert TIMEOUT <= b.cycle - began < TIMEOUT + 100
        assert await b.get("cqh", "index") == 2
        assert await b.get("cqcsr", "fence_w_ip") == 0
        assert await b.get("ipsr", "cip") == 1
        await acknowledge(b, messages[0])  # too late: ignored
        await b.set("cqcsr", cqen=1, cmd_to=1)
        await b.wait("cqh", "index", 3)
        assert await b.get("cqcsr") == CSR.pack(cqen=1, cqon=1, fence_w_ip=1)

    ControlBench(CONFIG).run(run)


def test_tags_run_out_and_come_back():
    """33 invalidations: the last waits for the first one's tag."""

    async def run(b):
        await b.commands_on(log2size=6)
        await b.execute(*[invalidate(n) for n in range(33)], fence(), log2size=6)
        messages = [await receive(b.ctx, b.dut.invalidate) for _ in range(32)]
        assert sorted(message.tag for message in messages) == list(range(32))
        await b.ticks(50)
        assert b.ctx.get(b.dut.invalidate.valid) == 0
        await acknowledge(b, messages[0])
        last = await receive(b.ctx, b.dut.invalidate)
        assert (last.tag, last.device_id) == (messages[0].tag, 32)
        for message in (*messages[1:], last):
            await acknowledge(b, message)
        await b.wait("cqh", "index", 34)
        assert await b.get("cqcsr", "cmd_to") == 0

    ControlBench(replace(CONFIG, ats_timeout_cycles=4000)).run(run)


@pytest.mark.parametrize("held", [False, True])
def test_a_device_that_never_answers_holds_nobody_for_good(held):
    """Not even one that does not take the message."""

    async def run(b):
        b.ctx.set(b.dut.invalidate.ready, not held)
        await b.commands_on()
        await b.execute(invalidate(1), fence())
        await b.wait("cqcsr", "cmd_to", 1)
        await b.put("cqcsr", 0)
        await b.wait("cqcsr", "cqon", 0)
        await b.set("cqcsr", cqen=1)
        await b.set("cqt", index=0)
        await b.execute(vma(), fence(), start=0)
        await b.wait("cqh", "index", 2)

    ControlBench(CONFIG).run(run)


def test_an_answer_to_page_requests_finds_none():
    async def run(b):
        await b.commands_on()
        await b.execute(ATS.pack(opcode=4, func3=1, rid=1), fence())
        await b.wait("cqh", "index", 2)
        assert b.ctx.get(b.dut.invalidate.valid) == 0

    ControlBench(CONFIG).run(run)
