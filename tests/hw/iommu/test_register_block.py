# SPDX-License-Identifier: BSD-2-Clause
"""Registers take accesses of their size, keep what they may, and give 0 where there are none."""

from dataclasses import replace

import pytest

from hw.abi.iommu import DirectoryMode
from hw.abi.iommu_registers import iommu_registers
from hw.bus.axi4 import Response
from hw.config import IommuConfig
from hw.iommu.register_block import capabilities
from tests.hw.iommu.control_bench import SMALL, ControlBench

ALL = 0xFFFF_FFFF_FFFF_FFFF
R = iommu_registers()


def test_capabilities_say_what_is_built():
    most = capabilities(IommuConfig())
    get = R["capabilities"].get
    on = ("sv39", "sv48", "sv39x4", "sv48x4", "amo_hwad", "ats", "hpm", "dbg", "nl", "s")
    assert all(get(most, name) for name in on)
    assert get(most, "version") == 0x10
    assert get(most, "igs") == 1
    assert get(most, "pas") == 56
    assert not any(get(most, name) for name in ("msi_flat", "t2gpa", "end", "pd8", "pd17", "pd20"))
    least = capabilities(
        IommuConfig(first_levels=3, second_levels=3, hardware_ad=False, ats=False, counters=0, physical_bits=40)
    )
    assert not any(get(least, name) for name in ("sv48", "sv48x4", "amo_hwad", "ats", "hpm"))
    assert get(least, "pas") == 40


def test_values_after_reset():
    async def run(b):
        for name, register in R.items():
            expected = capabilities(SMALL) if name == "capabilities" else register.reset
            value = await b.get(name)
            if name == "iohpmcycles":
                assert 0 < value < 10_000
            else:
                assert value == expected, f"{name} is {value:#x} after reset"

    ControlBench().run(run)


@pytest.mark.parametrize(
    ("offset", "strobe", "response"),
    [
        (24, 0xFF, Response.OKAY),
        (24, 0x0F, Response.OKAY),
        (24, 0xF0, Response.OKAY),
        (28, 0xF0, Response.OKAY),
        (28, 0xFF, Response.SLVERR),  # not aligned to its size
        (28, 0x0F, Response.SLVERR),
        (25, 0xFF, Response.SLVERR),
        (26, 0x0F, Response.SLVERR),
        (24, 0x03, Response.SLVERR),  # 2 bytes
        (24, 0x01, Response.SLVERR),
        (24, 0x3C, Response.SLVERR),
        (24, 0x00, Response.SLVERR),
        (32, 0xFF, Response.SLVERR),  # two registers
        (8, 0xFF, Response.SLVERR),
        (36, 0xF0, Response.OKAY),
        (32, 0x0F, Response.OKAY),  # read-only
        (0, 0xFF, Response.OKAY),
        (0x400, 0xFF, Response.OKAY),  # nothing there
        (0xFFC, 0xF0, Response.OKAY),
    ],
)
def test_sizes_of_writes(offset, strobe, response):
    async def run(b):
        before = [await b.get(name) for name in ("capabilities", "cqb", "cqh", "cqt")]
        assert await b.registers.write_at(b.ctx, offset, 0x0000_0001_0000_0402, strobe=strobe) is response
        after = [await b.get(name) for name in ("capabilities", "cqb", "cqh", "cqt")]
        writable = response is Response.OKAY and (24 <= offset < 32 or offset == 36)
        assert (before != after) == writable

    ControlBench().run(run)


def test_halves_of_a_register_are_written_alone():
    async def run(b):
        await b.put("fqb", 0x0011_2233_4455_6402)
        await b.registers.write_at(b.ctx, 44, 0x0001_0000_ABCD_EF01, strobe=0xF0)
        assert await b.get("fqb") == 0x0001_0000_4455_6402
        await b.registers.write_at(b.ctx, 40, 0x0001_0000_0000_0C03, strobe=0x0F)
        assert await b.get("fqb") == 0x0001_0000_0000_0C03

    ControlBench().run(run)


def test_where_no_register_is_reads_give_0():
    async def run(b):
        taken = {register.offset // 8 for register in R.values()}
        for row in (row for row in range(100) if row not in taken):
            await b.registers.write_at(b.ctx, 8 * row, ALL)
            assert await b.registers.read_at(b.ctx, 8 * row) == (0, Response.OKAY)
        for offset in (700, 768, 1024, 4092):
            assert await b.registers.read_at(b.ctx, offset) == (0, Response.OKAY)
        assert await b.registers.read_at(b.ctx, 26) == (0, Response.SLVERR)

    ControlBench().run(run)


def test_only_writable_bits_are_kept():
    async def run(b):
        for name in ("cqb", "fqb", "pqb", "cqt", "fqh", "pqh", "icvec", "tr_req_iova", "iohpmevt1", "iocountinh"):
            await b.put(name, (1 << R[name].width) - 1)
        assert await b.get("cqb") == R["cqb"].pack(log2sz_1=31, ppn=(1 << 28) - 1)
        assert await b.get("fqb") == await b.get("pqb") == await b.get("cqb")
        assert await b.get("cqt") == 0xFFFF_FFFF
        assert await b.get("icvec") == 0  # wires 15 do not exist
        assert await b.get("tr_req_iova") == ALL - 0xFFF
        assert await b.get("iohpmevt1") == ALL
        assert await b.get("iocountinh") == 0b111  # two counters
        await b.set("icvec", civ=3, fiv=2, pmiv=1, piv=4)
        assert await b.get("icvec") == R["icvec"].pack(civ=3, fiv=2, pmiv=1)
        for name in ("capabilities", "fctl", "cqh", "fqt", "pqt", "iocountovf", "tr_response", "iohpmctr3"):
            before = await b.get(name)
            await b.put(name, (1 << R[name].width) - 1)
            assert await b.get(name) == before, name

    ControlBench(replace(SMALL, physical_bits=40)).run(run)


def test_an_index_stays_within_its_queue():
    async def run(b):
        for base, index in (("cqb", "cqt"), ("fqb", "fqh"), ("pqb", "pqh")):
            await b.set(base, log2sz_1=2)
            await b.set(index, index=0x12345)
            assert await b.get(index, "index") == 5
            await b.set(base, log2sz_1=1)
            assert await b.get(index, "index") == 0
            await b.set(index, index=0xFFFF_FFFF)
            assert await b.get(index, "index") == 3

    ControlBench().run(run)


def test_page_requests_have_a_queue_that_stays_empty():
    async def run(b):
        await b.set("pqcsr", pqen=1, pie=1)
        assert await b.get("pqcsr") == R["pqcsr"].pack(pqen=1, pie=1, pqon=1)
        await b.put("pqcsr", 0)
        assert await b.get("pqcsr") == 0

    ControlBench().run(run)


def test_what_is_not_built_reads_0():
    async def run(b):
        for name in ("pqb", "pqh", "pqcsr", "iocountinh", "iohpmcycles", "iohpmctr1", "iohpmevt1"):
            await b.put(name, (1 << R[name].width) - 1)
            assert await b.get(name) == 0, name

    ControlBench(IommuConfig(ats=False, counters=0)).run(run)


def test_reads_and_writes_take_turns():
    async def run(b):
        bus, ctx = b.dut.registers, b.ctx
        ctx.set(bus.ar.payload.addr, 24)
        ctx.set(bus.aw.payload.addr, 24)
        ctx.set(bus.w.payload, {"data": 5, "strb": 0xFF})
        for port in (bus.ar, bus.aw, bus.w):
            ctx.set(port.valid, 1)
        for port in (bus.r, bus.b):
            ctx.set(port.ready, 1)
        order = ""
        for _ in range(40):
            _, _, read, write = await ctx.tick().sample(bus.r.valid, bus.b.valid)
            order += "r" * read + "w" * write
        assert len(order) >= 12
        assert "rr" not in order
        assert "ww" not in order

    ControlBench().run(run)


@pytest.mark.parametrize("to", [DirectoryMode.OFF, DirectoryMode.BARE, DirectoryMode.LVL1, DirectoryMode.LVL3])
@pytest.mark.parametrize("start", [DirectoryMode.OFF, DirectoryMode.BARE, DirectoryMode.LVL1, DirectoryMode.LVL2])
def test_directory_modes_change_through_off_or_bare(start, to):
    plain = (DirectoryMode.OFF, DirectoryMode.BARE)

    async def run(b):
        await b.set("ddtp", iommu_mode=start.value, ppn=0x12)
        await b.wait("ddtp", "busy", 0)
        await b.set("ddtp", iommu_mode=to.value, ppn=0x34)
        await b.wait("ddtp", "busy", 0)
        allowed = start in plain or to in plain
        assert await b.get("ddtp") == R["ddtp"].pack(
            iommu_mode=to.value if allowed else start.value, ppn=0x34 if allowed else 0x12
        )
        assert b.ctx.get(b.dut.directory.mode) == (to if allowed else start)
        await b.set("ddtp", iommu_mode=5, ppn=0x56)
        assert await b.get("ddtp", "ppn") != 0x56

    ControlBench().run(run)


def test_directory_is_busy_until_older_accesses_are_done():
    async def run(b):
        sources = [b.dut.fences[index] for index in range(2)]  # both channels
        for source in sources:
            b.ctx.set(source.busy, 0b01)
        await b.set("ddtp", iommu_mode=2)
        await b.ticks(20)
        assert [b.ctx.get(source.color) for source in sources] == [1, 1]
        assert await b.get("ddtp", "busy") == 1
        await b.set("ddtp", iommu_mode=0)  # ignored
        for source in sources:
            await b.ticks(10)
            assert await b.get("ddtp", "busy") == 1
            b.ctx.set(source.busy, 0b10)
        await b.wait("ddtp", "busy", 0)
        assert await b.get("ddtp", "iommu_mode") == 2

    ControlBench().run(run)
