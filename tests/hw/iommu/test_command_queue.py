# SPDX-License-Identifier: BSD-2-Clause
"""Commands run in order and once; fences wait; what is wrong stops the queue at its command until software resumes."""

import random
from dataclasses import replace

import pytest

from hw.abi.codec import Codec
from hw.abi.iommu import DirectoryCommand, FenceCommand, InvalidateCommand
from hw.abi.iommu_registers import iommu_registers
from hw.iommu.interfaces import InvalidationKind
from tests.hw.iommu.control_bench import COMMANDS, DATA, SMALL, ControlBench

INVALIDATE, FENCE, DIRECTORY = Codec(InvalidateCommand), Codec(FenceCommand), Codec(DirectoryCommand)
CSR = iommu_registers()["cqcsr"]


def vma(**fields):
    return INVALIDATE.pack(opcode=1, **fields)


def fence(**fields):
    return FENCE.pack(opcode=2, **fields)


def test_invalidations_reach_the_caches():
    async def run(b):
        await b.commands_on()
        await b.execute(
            vma(av=1, address=0x123, pscv=1, pscid=7, nl=1),
            INVALIDATE.pack(opcode=1, func3=1, gv=1, gscid=9),
            DIRECTORY.pack(opcode=3, dv=1, did=0x123456),
            DIRECTORY.pack(opcode=3, func3=1, dv=1, did=3, pid=255),
            vma(),
        )
        await b.wait("cqh", "index", 5)
        first, second, third, last = (payload for _, payload in b.invalidations)
        assert (first.kind, first.page_valid, first.page, first.mask) == (InvalidationKind.VMA, 1, 0x123, 0)
        assert (first.pscid_valid, first.pscid, first.gscid_valid, first.nonleaf) == (1, 7, 0, 1)
        assert (second.kind, second.gscid_valid, second.gscid) == (InvalidationKind.GVMA, 1, 9)
        assert second.page_valid == 0
        assert (third.kind, third.device_valid, third.device_id) == (InvalidationKind.CONTEXT, 1, 0x123456)
        assert last.page_valid == last.pscid_valid == last.gscid_valid == 0
        assert await b.get("cqcsr") == CSR.pack(cqen=1, cqon=1)

    ControlBench(taking=0.3).run(run)


def test_a_batch_goes_on_without_pauses():
    """Fetches run ahead: 64 bytes a burst, two bursts ahead; the caches see an invalidation every other cycle or
    faster."""

    async def run(b):
        await b.commands_on(log2size=6)
        await b.execute(*[vma(av=1, address=n) for n in range(40)], fence(av=1, data=1, address=DATA >> 2), log2size=6)
        await b.wait("cqh", "index", 41)
        assert [payload.page for _, payload in b.invalidations] == list(range(40))
        assert b.invalidations[-1][0] - b.invalidations[0][0] < 2.5 * 40
        assert b.memory.data[DATA] == 1

    ControlBench(latency=8).run(run)


def test_slow_caches_hold_fetches_up_and_lose_nothing():
    async def run(b):
        await b.commands_on(log2size=6)
        b.taking = 0
        await b.execute(*[vma(av=1, address=n) for n in range(40)], log2size=6)
        await b.ticks(200)
        assert sum(burst.beats for burst in b.memory.reads) // 2 <= 9  # eight ahead of the one in execution
        b.taking = 0.2
        await b.wait("cqh", "index", 40)
        b.taking = 1
        await b.ticks(20)
        assert [payload.page for _, payload in b.invalidations] == list(range(40))

    ControlBench().run(run)


@pytest.mark.parametrize(
    ("address", "mask"),
    [(0x120, 1), (0x127, 0xF), (0x1FF, 0x3FF), ((1 << 52) - 1, (1 << 52) - 1), ((1 << 51) - 1, (1 << 52) - 1)],
)
def test_a_range_is_as_large_as_the_trailing_ones_say(address, mask):
    async def run(b):
        await b.commands_on()
        await b.execute(vma(av=1, s=1, address=address), vma(av=1, s=0, address=address))
        await b.wait("cqh", "index", 2)
        first, second = (payload for _, payload in b.invalidations)
        assert (first.page_valid, first.page | first.mask, first.mask) == (1, address | mask, mask)
        assert second.mask == 0

    ControlBench().run(run)


@pytest.mark.parametrize("seed", range(4))
def test_indices_wrap(seed):
    """Random batches through small queues: each command runs once and in order, and no fetch goes past the tail."""
    rng = random.Random(seed)

    async def run(b):
        log2size = rng.choice([1, 2, 3])
        size = 1 << log2size
        await b.commands_on(log2size=log2size)
        position = number = 0
        for _ in range(12):
            count = rng.randint(1, size - 1)
            await b.execute(*[vma(av=1, address=number + n) for n in range(count)], start=position, log2size=log2size)
            number += count
            position = (position + count) % size
            await b.wait("cqh", "index", position)
            # What lies behind the tail must not be executed later either.
            b.memory.data[COMMANDS : COMMANDS + 16 * size] = b"\xff" * (16 * size)
        await b.ticks(20)
        assert [payload.page for _, payload in b.invalidations] == list(range(number))
        assert sum(burst.beats for burst in b.memory.reads) == 2 * number
        assert all(COMMANDS <= burst.address < COMMANDS + 16 * size for burst in b.memory.reads)

    ControlBench(seed=seed, stall=0.3, latency=(1, 30), taking=0.5).run(run)


def test_fence_waits_for_older_accesses_of_both_channels_only():
    async def run(b):
        write, read, _ = b.dut.fences
        await b.commands_on()
        before = b.ctx.get(write.color)
        b.ctx.set(write.busy, 1 << before)
        b.ctx.set(read.busy, 1 << before)
        await b.execute(vma(), fence(av=1, data=0xCAFE, address=DATA >> 2))
        await b.wait("cqh", "index", 1)
        await b.ticks(50)
        assert b.ctx.get(write.color) == b.ctx.get(read.color) == 1 - before
        b.ctx.set(write.busy, 1 << (1 - before))  # new accesses do not hold it up
        await b.ticks(50)
        assert await b.get("cqh", "index") == 1
        assert b.memory.data[DATA] == 0
        b.ctx.set(read.busy, 1 << (1 - before))
        await b.wait("cqh", "index", 2)
        assert b.memory.data[DATA : DATA + 8] == (0xCAFE).to_bytes(8, "little")

    ControlBench().run(run)


def test_fence_waits_for_invalidations():
    async def run(b):
        await b.commands_on()
        b.taking = 0
        await b.execute(vma(), fence(wsi=1))
        await b.ticks(100)
        assert await b.get("cqh", "index") == 1
        assert await b.get("cqcsr", "fence_w_ip") == 0
        b.taking = 1
        await b.wait("cqcsr", "fence_w_ip", 1)

    ControlBench().run(run)


def test_two_fences_in_a_row_use_both_colors():
    async def run(b):
        write, *_ = b.dut.fences
        await b.commands_on()
        first = b.ctx.get(write.color)
        await b.execute(fence())
        await b.wait("cqh", "index", 1)
        b.ctx.set(write.busy, 1 << (1 - first))
        await b.execute(fence(), start=1)
        await b.ticks(50)
        assert b.ctx.get(write.color) == first
        assert await b.get("cqh", "index") == 1
        b.ctx.set(write.busy, 0)
        await b.wait("cqh", "index", 2)

    ControlBench().run(run)


def test_fence_writes_four_bytes_and_then_interrupts():
    async def run(b):
        await b.commands_on(cie=1)
        b.memory.data[DATA : DATA + 16] = b"\xaa" * 16
        await b.execute(
            fence(av=1, wsi=1, data=0x1234_5678, address=(DATA + 4) >> 2),
            fence(av=1, data=0x9ABC_DEF0, address=(DATA + 8) >> 2),
        )
        await b.wait("ipsr", "cip", 1)
        assert b.memory.data[DATA + 4 : DATA + 8] == (0x1234_5678).to_bytes(4, "little")
        await b.wait("cqh", "index", 2)
        assert b.memory.data[DATA : DATA + 16] == (
            b"\xaa" * 4 + (0x9ABC_DEF0_1234_5678).to_bytes(8, "little") + b"\xaa" * 4
        )
        assert await b.get("cqcsr") == CSR.pack(cqen=1, cie=1, fence_w_ip=1, cqon=1)
        await b.set("cqcsr", cqen=1, cie=1, fence_w_ip=1)
        assert await b.get("cqcsr", "fence_w_ip") == 0

    ControlBench(latency=20).run(run)


ILLEGAL = {
    "opcode 0": bytes(16),
    "custom opcode": bytes([64]) + bytes(15),
    "function of IOTINVAL": vma(func3=2),
    "reserved bit of IOTINVAL": vma(reserved=1),
    "reserved bit of its second half": vma(reserved_126=2),
    "reserved bit between NL and GSCID": vma(reserved_35=1 << 8),
    "PSCV of GVMA": vma(func3=1, pscv=1),
    "function of IOFENCE": fence(func3=1),
    "reserved bit of IOFENCE": fence(reserved=1),
    "function of IODIR": DIRECTORY.pack(opcode=3, func3=2),
    "reserved bit of IODIR": DIRECTORY.pack(opcode=3, reserved_64=1 << 63),
    "PID of INVAL_DDT": DIRECTORY.pack(opcode=3, pid=1),
    "INVAL_PDT without DV": DIRECTORY.pack(opcode=3, func3=1),
    "wide PID": DIRECTORY.pack(opcode=3, func3=1, dv=1, pid=256),
    "wide DID": DIRECTORY.pack(opcode=3, dv=1, did=1 << 16),
    "wide DID of INVAL_PDT": DIRECTORY.pack(opcode=3, func3=1, dv=1, did=1 << 16),
    "function of ATS": bytes([4, 1]) + bytes(14),
}


@pytest.mark.parametrize("command", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_illegal_command_stops_the_queue_until_cleared(command):
    async def run(b):
        await b.set("ddtp", iommu_mode=3)
        await b.commands_on(cie=1)
        await b.execute(vma(), command, vma(pscv=1, pscid=3))
        await b.wait("cqcsr", "cmd_ill", 1)
        await b.ticks(60)
        assert await b.get("cqh", "index") == 1
        assert await b.get("ipsr", "cip") == 1
        assert len(b.invalidations) == 1
        # Not corrected: it stops again.
        await b.set("cqcsr", cqen=1, cie=1, cmd_ill=1)
        await b.wait("cqcsr", "cmd_ill", 1)
        assert await b.get("cqh", "index") == 1
        b.write_command(1, vma(pscv=1, pscid=2))
        await b.set("cqcsr", cqen=1, cmd_ill=1)
        await b.wait("cqh", "index", 3)
        assert [payload.pscid for _, payload in b.invalidations] == [0, 2, 3]

    ControlBench(stall=0.2, latency=(1, 20)).run(run)


@pytest.mark.parametrize(("mode", "bits"), [(2, 7), (3, 16), (4, 24), (1, 24)])
def test_a_device_id_may_be_as_wide_as_the_directory(mode, bits):
    async def run(b):
        await b.set("ddtp", iommu_mode=mode)
        await b.commands_on()
        await b.execute(DIRECTORY.pack(opcode=3, dv=1, did=(1 << bits) - 1), DIRECTORY.pack(opcode=3, did=0xFFFFFF))
        await b.wait("cqh", "index", 2)

    ControlBench().run(run)


@pytest.mark.parametrize("half", [0, 8])
def test_a_fetch_that_fails_stops_at_its_command(half):
    async def run(b):
        b.memory.fail(range(COMMANDS + 32 + half, COMMANDS + 40 + half))
        await b.commands_on(cie=1)
        await b.execute(*[vma(av=1, address=n) for n in range(6)])
        await b.wait("cqcsr", "cqmf", 1)
        await b.ticks(50)
        assert await b.get("cqh", "index") == 2
        assert [payload.page for _, payload in b.invalidations] == [0, 1]
        b.memory.heal()
        await b.set("cqcsr", cqen=1, cqmf=1)
        await b.wait("cqh", "index", 6)
        assert [payload.page for _, payload in b.invalidations] == list(range(6))

    ControlBench(stall=0.2, latency=(1, 20)).run(run)


def test_a_fence_whose_write_fails_stops_there():
    async def run(b):
        b.memory.fail(range(DATA, DATA + 4))
        await b.commands_on()
        await b.execute(fence(av=1, wsi=1, address=DATA >> 2, data=5), vma())
        await b.wait("cqcsr", "cqmf", 1)
        assert await b.get("cqh", "index") == 0
        assert await b.get("cqcsr", "fence_w_ip") == 0
        b.memory.heal()
        await b.set("cqcsr", cqen=1, cqmf=1)
        await b.wait("cqh", "index", 2)
        assert b.memory.data[DATA] == 5
        # An address that no memory can have is never put on the bus.
        writes = len(b.memory.writes)
        await b.execute(fence(av=1, address=1 << 60), start=2)
        await b.wait("cqcsr", "cqmf", 1)
        assert len(b.memory.writes) == writes

    ControlBench().run(run)


def test_turning_the_queue_off_and_on():
    async def run(b):
        await b.commands_on()
        await b.execute(vma(), vma(), bytes(16))
        await b.wait("cqcsr", "cmd_ill", 1)
        await b.put("cqcsr", 0)
        await b.wait("cqcsr", "cqon", 0)
        assert await b.get("cqcsr") == CSR.pack(cmd_ill=1)
        assert await b.get("cqh", "index") == 2
        reads = len(b.memory.reads)
        await b.set("cqt", index=9)
        await b.ticks(50)
        assert len(b.memory.reads) == reads
        await b.set("cqt", index=0)
        await b.set("cqcsr", cqen=1)
        await b.wait("cqcsr", "cqon", 1)
        assert await b.get("cqcsr") == CSR.pack(cqen=1, cqon=1)
        assert await b.get("cqh", "index") == 0
        await b.execute(vma(), vma(), vma())
        await b.wait("cqh", "index", 3)

    ControlBench().run(run)


def test_turning_off_ends_a_wait_and_the_next_fence_still_waits():
    async def run(b):
        write, *_ = b.dut.fences
        await b.commands_on()
        old = b.ctx.get(write.color)
        b.ctx.set(write.busy, 1 << old)
        await b.execute(fence())
        await b.ticks(50)
        await b.put("cqcsr", 0)
        await b.wait("cqcsr", "busy", 0)
        await b.set("cqcsr", cqen=1)
        await b.ticks(50)
        assert await b.get("cqh", "index") == 0
        b.ctx.set(write.busy, 0)
        await b.wait("cqh", "index", 1)

    ControlBench().run(run)


@pytest.mark.parametrize("seed", range(3))
def test_turning_off_waits_for_memory(seed):
    async def run(b):
        await b.commands_on(log2size=5)
        await b.execute(*[vma() for _ in range(30)], log2size=5)
        await b.ticks(random.Random(seed).randrange(60))
        await b.put("cqcsr", 0)
        await b.wait("cqcsr", "busy", 0)
        assert b.memory.idle
        reads = len(b.memory.reads)
        await b.ticks(100)
        assert len(b.memory.reads) == reads

    ControlBench(seed=seed, stall=0.3, latency=(20, 60)).run(run)


def test_ats_is_unsupported_without_the_capability():
    async def run(b):
        await b.commands_on()
        await b.execute(bytes([4]) + bytes(15))
        await b.wait("cqcsr", "cmd_ill", 1)

    ControlBench(replace(SMALL, ats=False)).run(run)
