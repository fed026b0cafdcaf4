# SPDX-License-Identifier: BSD-2-Clause
"""Translation requests (PCIe ATS): what devices are told, what is recorded, in which order it comes."""

from dataclasses import replace
from typing import Any

import pytest

from hw.abi.codec import Codec
from hw.abi.iommu import NO_WRITE, AtsCommand, Cause, Event, Opcode, TransactionType, TranslationCompletion
from hw.abi.rings import AddressType
from hw.bus.axi4 import Response
from tests.golden.model import EN_ATS, SADE
from tests.golden.paging import PTE_A, PTE_D, PTE_N, PTE_R, PTE_U, PTE_V, PTE_X, SV39
from tests.golden.tables import LEAF, NAPOT_64K, PAGE
from tests.hw.bus.axi_manager import Access
from tests.hw.iommu.bench import DEVICE, SMALL, IommuBench, fence, invalidate

ASK = {"address_type": AddressType.TRANSLATION_REQUEST}
COMMAND = Codec(AtsCommand)
COMPLETION = Codec(TranslationCompletion)
READ_ONLY = PTE_V | PTE_R | PTE_U | PTE_A


def ask(bench: IommuBench, address: int, *, no_write: bool = False, **more: Any) -> Access:
    return bench.read(address | no_write << NO_WRITE, user=ASK | more.pop("user", {}), **more)


def ats_invalidate(address: int, device: int = DEVICE) -> bytes:
    """ATS.INVAL of one page."""
    return COMMAND.pack(opcode=Opcode.ATS.value, rid=device, payload=address)


def told(access: Access) -> tuple[int, int, int, int]:
    """R, W, physical address and bytes of the range."""
    assert access.response is Response.OKAY
    word = COMPLETION.unpack(access.result[:8])
    assert access.result == access.result[:8] * (len(access.result) // 8)
    assert not word.u
    assert not word.exe
    assert not word.priv
    assert not word.everywhere
    assert not word.n
    if not word.r:
        return 0, word.w, 0, 0
    size = PAGE * 2 * ((word.page ^ word.page + 1) + 1 >> 1) if word.s else PAGE
    return word.r, word.w, word.page * PAGE & -size, size


def test_permissions_by_the_leaf() -> None:
    """Each page twice: of a table, and then of what is cached of it."""
    bench = IommuBench(size=1 << 23)
    root = bench.space(tc=EN_ATS)
    leaves = {
        LEAF: (1, 1),
        LEAF & ~PTE_D: (1, 0),  # D is not set, and no hardware may
        READ_ONLY: (1, 0),
        READ_ONLY & ~PTE_A: (0, 0),
        READ_ONLY & ~PTE_U: (0, 0),
        PTE_V | PTE_X | PTE_U | PTE_A: (0, 0),
        0: (0, 0),
    }
    pages = {flags: bench.map(root, 0x5000 + PAGE * n, flags=flags) for n, flags in enumerate(leaves)}

    async def main(b: IommuBench) -> None:
        await b.open()
        for _ in range(2):
            for n, (flags, (r, w)) in enumerate(leaves.items()):
                access = ask(b, 0x5000 + PAGE * n)
                await b.finish()
                assert told(access) == ((r, w, pages[flags] * PAGE, PAGE) if r else (0, 0, 0, 0)), f"{flags:#x}"
        assert await b.records(0) == []
        assert not b.memory.reads

    bench.run(main)


@pytest.mark.parametrize("no_write", [False, True])
def test_hardware_marks_what_is_granted(no_write: bool) -> None:
    bench = IommuBench()
    root = bench.space(tc=EN_ATS | SADE)
    page = bench.map(root, 0x5000, flags=LEAF & ~PTE_A & ~PTE_D)
    only = bench.map(root, 0x6000, flags=READ_ONLY & ~PTE_A)

    async def main(b: IommuBench) -> None:
        await b.open()
        accesses = [ask(b, address, no_write=no_write) for address in (0x5000, 0x6000)]
        await b.finish()
        assert [told(access) for access in accesses] == [
            (1, 0 if no_write else 1, page * PAGE, PAGE),
            (1, 0, only * PAGE, PAGE),
        ]
        flags = [b.tables.find(SV39, root, address, level=0) & 0xFF for address in (0x5000, 0x6000)]
        assert flags == [LEAF & ~PTE_D if no_write else LEAF, READ_ONLY]
        # What was only read may still be written, once it is asked for.
        again = ask(b, 0x5000)
        await b.finish()
        assert told(again)[:2] == (1, 1)

    bench.run(main)


def test_sizes() -> None:
    bench = IommuBench(size=1 << 23)
    root = bench.space(tc=EN_ATS)
    bench.map(root, 0x4000_0000, 0x400, level=1)
    for n in range(16):
        bench.map(root, 0x10000 + PAGE * n, 0x40 | NAPOT_64K, flags=LEAF | PTE_N)
    bench.map(root, 0x8000_0000, 0x40000, level=2)
    bench.space(DEVICE + 1, tc=EN_ATS, first=(0, 0))
    cases = (
        (DEVICE, 0x4000_5008, 0x40_0000, 2 << 20),
        (DEVICE, 0x1_3010, 0x4_0000, 64 << 10),
        (DEVICE, 0x8123_4000, 0x4000_0000, 1 << 30),
        (DEVICE + 1, 0x8123_4000, 0x8000_0000, 1 << 30),  # nothing is translated: the address itself
    )

    async def main(b: IommuBench) -> None:
        await b.open()
        for _ in range(2):
            for device, address, physical, size in cases:
                access = ask(b, address, device=device)
                await b.finish()
                assert told(access) == (1, 1, physical, size)

    bench.run(main)


def test_a_hit_takes_four_cycles_and_each_next_answer_at_most_three() -> None:
    bench = IommuBench()
    root = bench.space(tc=EN_ATS)
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        ask(b, 0x5000)
        await b.finish()
        accesses = [ask(b, 0x5000 + 8 * n, id=n % 3) for n in range(20)]
        await b.finish()
        first = accesses[0]
        assert first.addressed is not None
        assert first.answered is not None
        assert first.answered - first.addressed == 4
        answered = sorted(access.answered or 0 for access in accesses)
        assert answered[-1] - answered[0] <= 3 * 19

    bench.run(main)


def test_what_is_refused() -> None:
    """With a record, of a transaction type of its own."""
    bench = IommuBench(replace(SMALL, physical_bits=40))
    bench.space(3)
    bench.space(DEVICE, tc=EN_ATS, pscid=2)
    outside = bench.space(7, tc=EN_ATS, pscid=3)
    bench.map(outside, 0x5000, 1 << 28)
    cases: tuple[tuple[int, dict[str, Any], Cause], ...] = (
        (3, {}, Cause.TYPE_DISALLOWED),
        (DEVICE, {"process_id_valid": 1}, Cause.TYPE_DISALLOWED),
        (9, {}, Cause.DIRECTORY_INVALID),
        (7, {}, Cause.READ_ACCESS),
    )

    async def main(b: IommuBench) -> None:
        await b.open()
        for device, fields, cause in cases:
            access = ask(b, 0x5000, device=device, user=fields)
            await b.finish()
            assert access.response is Response.SLVERR
            (record,) = await b.records(1)
            assert access.result == bytes(8)
            assert (record.cause, record.ttyp) == (cause.value, TransactionType.ATS_REQUEST.value)

    bench.run(main)


def test_answers_come_in_the_order_of_their_id() -> None:
    bench = IommuBench(latency=60)
    root = bench.space(tc=EN_ATS)
    page = bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.open()
        b.data[page * PAGE : page * PAGE + 8] = b"memory.."
        before = b.read(0x5000, id=1)
        request = ask(b, 0x5000, id=1)
        after = b.read(0x5000, id=1)
        await b.finish()
        assert before.result == after.result == b"memory.."
        assert told(request) == (1, 1, page * PAGE, PAGE)
        assert before.answered
        assert request.answered
        assert after.answered
        assert before.answered < request.answered < after.answered

    bench.run(main)


def test_no_old_answer_comes_after_its_invalidation_is_sent() -> None:
    """An answer waits for read data of its ID, then the device takes none for a while: the message waits as well."""
    bench = IommuBench(SMALL, latency=200)
    root = bench.space(tc=EN_ATS)
    old = bench.map(root, 0x5000)
    messages: list[int] = []

    async def watch(ctx: Any) -> None:
        cycle = 0
        ctx.set(bench.dut.invalidate.ready, 1)
        while True:
            _, _, valid, payload = await ctx.tick().sample(bench.dut.invalidate.valid, bench.dut.invalidate.payload)
            if valid:
                messages.append(cycle)
                assert payload.address == 5
            ctx.set(bench.dut.invalidated.valid, valid)
            ctx.set(bench.dut.invalidated.payload, {"tag": payload.tag, "device_id": payload.device_id})
            cycle += 1

    async def main(b: IommuBench) -> None:
        await b.open()
        ask(b, 0x5000)
        await b.finish()
        b.read(0x5000, id=1)
        request = ask(b, 0x5000, id=1)
        await b.ticks(20)
        b.map(root, 0x5000)
        await b.command(invalidate(0x5000), ats_invalidate(0x5000), fence())
        await b.finish()
        assert told(request)[2] == old * PAGE, "the request was to be answered from the old table"
        assert request.answered is not None
        (sent,) = messages
        assert request.answered < sent

    bench.run(main, watch)


def test_they_are_counted() -> None:
    """Once each, also where a second lookup was needed."""
    bench = IommuBench()
    root = bench.space(tc=EN_ATS)
    bench.map(root, 0x5000)

    async def main(b: IommuBench) -> None:
        await b.registers.set(b.ctx, "iohpmevt1", eventid=Event.ATS_REQUEST.value)
        await b.registers.set(b.ctx, "iocountinh")
        await b.open()
        for n in range(12):
            ask(b, 0x5000 + PAGE * (n % 6), id=n)
        await b.finish()
        assert await b.registers.get(b.ctx, "iohpmctr1", "counter") == 12

    bench.run(main)
