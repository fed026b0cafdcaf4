# SPDX-License-Identifier: BSD-2-Clause
"""Debug translations ask for walks, answer in the registers, and report faults like any access."""

import pytest

from hw.abi.codec import Codec
from hw.abi.iommu import Cause, FenceCommand, TransactionType
from hw.abi.iommu_registers import iommu_registers
from hw.abi.rings import AddressType
from hw.iommu.interfaces import Access, PageSize
from tests.hw.iommu.control_bench import ControlBench

R = iommu_registers()
FENCE = Codec(FenceCommand)
WALK = 1


async def walk(b, **result):
    """Stand in for the walk table once; what was asked for."""
    port, claim = b.dut.debug_walk, b.dut.debug_claim
    for _ in range(200):
        _, _, request, wanted = await b.ctx.tick().sample(port.request, port.wanted)
        if request:
            break
    else:
        raise AssertionError("no walk asked for within 200 cycles")
    await b.ticks(3)  # refused a few times
    b.ctx.set(port.walk, WALK)
    b.ctx.set(port.taken, 1)
    await b.ticks(1)
    b.ctx.set(port.taken, 0)
    b.ctx.set(port.walk, 0)
    await b.ticks(10)
    assert not b.ctx.get(claim.release)
    b.ctx.set(claim.result, {"cause": Cause.NONE, "size": PageSize.SIZE_4K} | result)
    b.ctx.set(claim.finished, 1 << WALK)
    _, _, released, look = await b.ctx.tick().sample(claim.release, claim.look)
    assert (released, look) == (1, WALK)
    b.ctx.set(claim.finished, 0)
    b.ctx.set(claim.result, {"cause": Cause.INTERNAL})
    return wanted


async def ask(b, page, **fields):
    await b.set("tr_req_iova", vpn=page)
    await b.set("tr_req_ctl", go_busy=1, **fields)


@pytest.mark.parametrize(
    ("size", "ppn", "encoded"),
    [
        (PageSize.SIZE_4K, 0x12345678ABC, 0x12345678ABC),
        (PageSize.SIZE_64K, 0x12345678ABC, 0x12345678AB7),
        (PageSize.SIZE_2M, 0x12345678BBC, 0x12345678AFF),
        (PageSize.SIZE_1G, 0x12345678BBC, 0x1234565FFFF),
    ],
)
def test_an_answer_has_page_and_size(size, ppn, encoded):
    async def run(b):
        await ask(b, 0xFEDCB98765432, nw=1, did=0x123456, pv=1, pid=0x9876)
        wanted = await walk(b, ppn=ppn, size=size)
        assert (wanted.page, wanted.access) == (0xFEDCB98765432, Access.READ)
        requester = wanted.requester
        assert (requester.device_id, requester.process_id, requester.process_id_valid) == (0x123456, 0x9876, 1)
        assert requester.address_type is AddressType.UNTRANSLATED
        await b.wait("tr_req_ctl", "go_busy", 0)
        assert await b.get("tr_response") == R["tr_response"].pack(ppn=encoded, s=size is not PageSize.SIZE_4K)

    ControlBench().run(run)


@pytest.mark.parametrize(
    ("fields", "accesses"),
    [
        ({"nw": 1}, [Access.READ]),
        ({"nw": 0}, [Access.WRITE]),
        ({"nw": 1, "exe": 1}, [Access.EXECUTE, Access.READ]),
        ({"nw": 0, "exe": 1}, [Access.EXECUTE, Access.WRITE]),
    ],
)
def test_every_permission_is_asked_for(fields, accesses):
    async def run(b):
        await ask(b, 5, **fields)
        assert [(await walk(b, ppn=n)).access for n in range(len(accesses))] == accesses
        await b.wait("tr_req_ctl", "go_busy", 0)
        assert await b.get("tr_response", "ppn") == len(accesses) - 1

    ControlBench().run(run)


TTYP = {
    Access.READ: TransactionType.UNTRANSLATED_READ,
    Access.WRITE: TransactionType.UNTRANSLATED_WRITE,
    Access.EXECUTE: TransactionType.UNTRANSLATED_EXECUTE,
}


@pytest.mark.parametrize(
    ("fields", "failing", "access"),
    [
        ({"nw": 1}, 0, Access.READ),
        ({"nw": 0}, 0, Access.WRITE),
        ({"exe": 1}, 0, Access.EXECUTE),
        ({"exe": 1, "nw": 1}, 1, Access.READ),
    ],
)
def test_the_first_fault_ends_it_and_is_recorded(fields, failing, access):
    async def run(b):
        await b.faults_on(fie=1)
        await ask(b, 0x42, did=7, priv=1, pv=1, pid=3, **fields)
        for _ in range(failing):
            await walk(b)
        await walk(b, cause=Cause.READ_PAGE, iotval2=0)
        await b.wait("tr_req_ctl", "go_busy", 0)
        assert await b.get("tr_response", "fault") == 1
        await b.wait("fqt", "index", 1)
        record = b.record(0)
        assert (record.cause, record.ttyp, record.did, record.iotval) == (13, TTYP[access].value, 7, 0x42000)
        assert (record.pv, record.pid, record.priv) == (1, 3, 1)
        await b.ticks(30)
        assert not b.ctx.get(b.dut.debug_walk.request)

    ControlBench().run(run)


def test_a_quiet_fault_is_not_recorded():
    async def run(b):
        await b.faults_on()
        await ask(b, 0x42)
        await walk(b, cause=Cause.WRITE_PAGE, quiet=1)
        await b.wait("tr_req_ctl", "go_busy", 0)
        await b.ticks(50)
        assert await b.get("tr_response", "fault") == 1
        assert await b.get("fqt", "index") == 0

    ControlBench().run(run)


def test_registers_ignore_writes_while_busy():
    async def run(b):
        await ask(b, 0x42, did=7)
        await b.set("tr_req_iova", vpn=1)
        await b.put("tr_req_ctl", 0)
        assert await b.get("tr_req_iova", "vpn") == 0x42
        assert await b.get("tr_req_ctl") == R["tr_req_ctl"].pack(go_busy=1, did=7)
        await walk(b, ppn=9)
        await b.wait("tr_req_ctl", "go_busy", 0)
        await b.set("tr_req_ctl", did=8)
        assert not b.ctx.get(b.dut.debug_walk.request)
        assert await b.get("tr_response", "ppn") == 9

    ControlBench().run(run)


def test_fences_wait_for_it():
    async def run(b):
        await ask(b, 5)
        await b.commands_on()
        await b.execute(FENCE.pack(opcode=2))
        await b.ticks(60)
        assert await b.get("cqh", "index") == 0
        await walk(b)
        await b.wait("cqh", "index", 1)
        await ask(b, 6)
        await b.execute(FENCE.pack(opcode=2), start=1)
        await b.ticks(60)
        assert await b.get("cqh", "index") == 1

    ControlBench().run(run)


def test_the_low_half_of_control_starts_it():
    """As software of 32 bits does: high half first."""

    async def run(b):
        await b.set("tr_req_iova", vpn=3)
        await b.registers.write_at(b.ctx, R["tr_req_ctl"].offset + 4, 0x55 << 40, strobe=0xF0)
        await b.ticks(10)
        assert not b.ctx.get(b.dut.debug_walk.request)
        await b.registers.write_at(b.ctx, R["tr_req_ctl"].offset, 0b1001, strobe=0x0F)
        assert (await walk(b)).requester.device_id == 0x55
        await b.wait("tr_req_ctl", "go_busy", 0)

    ControlBench().run(run)
