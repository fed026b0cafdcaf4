# SPDX-License-Identifier: BSD-2-Clause
"""Inside the simulator: the exported IOMMU between cocotbext-axi's models, and a driver that writes plain words.

Nothing here comes from this project: offsets and layouts are those of the RISC-V IOMMU Architecture Specification 1.0,
written out, as an integrator would.
"""

import itertools
import random
import struct

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Combine, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiMaster, AxiRam, AxiResp

PAGE = 4096
CAPABILITIES, DDTP, CQB, CQT, FQB, FQH, FQT = 0, 16, 24, 36, 40, 48, 52
CQCSR, FQCSR, IPSR, TR_REQ_IOVA, TR_REQ_CTL, TR_RESPONSE, ICVEC = 72, 76, 84, 600, 608, 616, 760
DIRECTORY, COMMANDS, FAULTS, FENCE_DATA = 0x1000, 0x2000, 0x3000, 0x4000
COMMAND_WIRE, FAULT_WIRE = 1, 2
LEAF = 0b1101_0111  #: D, A, U, W, R, V
READ_ONLY = 0b1101_0011
DEVICE = 5
SV39, SV39X4 = 8, 8
SIZE = 8 << 20


class System:
    """Devices, memory and software around the core."""

    def __init__(self, dut):
        self.dut = dut
        self.device = AxiMaster(AxiBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=SIZE)
        self.walks = AxiRam(AxiBus.from_prefix(dut, "m_axi_walk"), dut.clk, dut.rst, size=SIZE, mem=self.memory.mem)
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.free = itertools.count(0x10_0000, PAGE)  # pages from 1 MiB on
        self.commands = 0
        self.faults = 0

    async def start(self):
        """Reset, then turn on queues and a directory of one level."""
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 4000, unit="ps").start())
        dut.invalidate_ready.value = 1
        dut.invalidated_valid.value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 4)
        self.memory.write(0, bytes(SIZE))
        await self.registers.write_qword(ICVEC, COMMAND_WIRE | FAULT_WIRE << 4)
        await self.registers.write_qword(CQB, COMMANDS >> 12 << 10 | 6)  # 128 commands
        await self.registers.write_qword(FQB, FAULTS >> 12 << 10 | 5)  # 64 records
        for register in (CQCSR, FQCSR):
            await self.registers.write_dword(register, 0b11)
            await self.until(register, lambda value: value >> 16 & 1)
        await self.registers.write_qword(DDTP, DIRECTORY >> 12 << 10 | 2)
        await self.until(DDTP, lambda value: not value >> 4 & 1)

    async def until(self, register, wanted):
        """Poll a register."""
        for _ in range(1000):
            if wanted(await self.registers.read_dword(register)):
                return
        raise AssertionError(f"register {register} never became what was waited for")

    async def clocks_until(self, wanted, what):
        """Wait for what happens without a register."""
        for _ in range(5000):
            if wanted():
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError(f"waited in vain for {what}")

    def page(self):
        return next(self.free)

    def attach(self, device=DEVICE, pscid=1, *, tc=0, iohgatp=0, first=True):
        """Give a device a context; the root of its first-stage table."""
        root = self.page()
        fsc = SV39 << 60 | root >> 12 if first else 0
        self.memory.write(DIRECTORY + 32 * device, struct.pack("<4Q", tc | 1, iohgatp, pscid << 12, fsc))
        return root

    def map(self, root, address, physical, flags=LEAF, *, level=0, root_bits=9):
        """Write a leaf, and the tables above it that are not there."""
        table = root
        for above in (2, 1, 0):
            bits = root_bits if above == 2 else 9
            entry = table + 8 * (address >> 12 + 9 * above & (1 << bits) - 1)
            if above == level:
                self.memory.write_qword(entry, physical >> 12 << 10 | flags)
                return
            pointer = self.memory.read_qword(entry)
            if not pointer & 1:
                pointer = self.page() >> 12 << 10 | 1
                self.memory.write_qword(entry, pointer)
            table = pointer >> 10 << 12

    def user(self, device=DEVICE, address_type=0):
        return device | address_type << 45

    async def read(self, address, length, **who):
        return await with_timeout(self.device.read(address, length, user=self.user(**who)), 200, "us")

    async def write(self, address, data, **who):
        return await with_timeout(self.device.write(address, data, user=self.user(**who)), 200, "us")

    async def command(self, low, high=0):
        self.memory.write(COMMANDS + 16 * (self.commands % 128), struct.pack("<2Q", low, high))
        self.commands += 1
        await self.registers.write_dword(CQT, self.commands % 128)

    async def fence(self):
        """IOFENCE.C that writes its number to memory, and the wait for that."""
        await self.command(2 | 1 << 10 | self.commands + 1 << 32, FENCE_DATA >> 2)
        number = self.commands
        await self.clocks_until(lambda: self.memory.read_dword(FENCE_DATA) == number, f"fence {number}")

    async def fault(self):
        """The next record: cause, TTYP, device_id, iotval."""
        await self.until(FQT, lambda tail: tail != self.faults)
        first, _, iotval, _ = struct.unpack("<4Q", self.memory.read(FAULTS + 32 * self.faults, 32))
        self.faults += 1
        await self.registers.write_dword(FQH, self.faults)
        return first & 0xFFF, first >> 34 & 0x3F, first >> 40, iotval

    def stall(self, often):
        """Random pauses on every channel whose other side is a model."""
        channels = [self.device.write_if.b_channel, self.device.read_if.r_channel]
        for ram in (self.memory, self.walks):
            write, read = ram.write_if, ram.read_if
            channels += [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
        for seed, channel in enumerate(channels):
            rng = random.Random(seed)
            channel.set_pause_generator(iter(lambda rng=rng: rng.random() < often, None))


async def move(system, seed):
    """Random accesses to pages that lie one after the other for the device and anywhere in memory."""
    rng = random.Random(seed)
    root = system.attach()
    physical = [system.page() for _ in range(16)]
    rng.shuffle(physical)
    base = 0x20_0000_0000 - len(physical) // 2 * PAGE  # across a boundary of 1 GiB
    for number, page in enumerate(physical):
        system.map(root, base + number * PAGE, page)
    expected = bytearray(len(physical) * PAGE)
    lane = len(physical) * PAGE // 8  # each writer keeps to its own, for writes at once have no order

    async def writer(number):
        mine = random.Random(seed * 8 + number)
        for _ in range(12):
            length = mine.randrange(1, 2000)
            start = number * lane + mine.randrange(lane - length)
            data = mine.randbytes(length)
            expected[start : start + length] = data
            written = await system.write(base + start, data)
            assert written.resp == AxiResp.OKAY
            back = await system.read(base + start, length)
            assert (back.resp, back.data) == (AxiResp.OKAY, data), f"{length} bytes at {base + start:#x}"

    await Combine(*(cocotb.start_soon(writer(number)) for number in range(8)))
    for number, page in enumerate(physical):
        assert system.memory.read(page, PAGE) == expected[number * PAGE : (number + 1) * PAGE]


@cocotb.test()
async def capabilities_are_those_of_the_configuration(dut):
    system = System(dut)
    await system.start()
    bits = (9, 10, 17, 18, 25, 28, 30, 31, 42, 43)  # all but AMO_HWAD
    expected = 0x10 | 56 << 32 | sum(1 << bit for bit in bits)
    assert await system.registers.read_qword(CAPABILITIES) == expected


@cocotb.test()
async def accesses_reach_the_pages_of_the_tables(dut):
    system = System(dut)
    await system.start()
    await move(system, 1)


@cocotb.test()
async def accesses_reach_the_pages_of_the_tables_under_stalls(dut):
    system = System(dut)
    await system.start()
    system.stall(0.3)
    await move(system, 2)


@cocotb.test()
async def both_stages_and_large_pages(dut):
    """Guest pages are the physical ones 2 MiB above, by one page of 2 MiB; the first stage maps one of 4 KiB."""
    system = System(dut)
    await system.start()
    while (guest_root := system.page()) % (4 * PAGE):
        pass
    for _ in range(3):
        system.page()
    root = system.attach(iohgatp=SV39X4 << 60 | 7 << 44 | guest_root >> 12)
    for large in range(0, 4 << 20, 2 << 20):
        system.map(guest_root, large, large, level=1, root_bits=11)
    system.map(guest_root, 6 << 20, 4 << 20, level=1, root_bits=11)
    system.map(root, 0x1234_5000, (6 << 20) + 3 * PAGE)
    written = await system.write(0x1234_5678, b"nested")
    assert written.resp == AxiResp.OKAY
    assert system.memory.read((4 << 20) + 3 * PAGE + 0x678, 6) == b"nested"
    await system.registers.write_qword(TR_REQ_IOVA, 0x1234_5000)
    await system.registers.write_qword(TR_REQ_CTL, DEVICE << 40 | 1)
    await system.until(TR_REQ_CTL, lambda value: not value & 1)
    assert await system.registers.read_qword(TR_RESPONSE) == (4 << 20) + 3 * PAGE >> 12 << 10


@cocotb.test()
async def a_fault_is_answered_recorded_and_signalled(dut):
    system = System(dut)
    await system.start()
    root = system.attach()
    page = system.page()
    system.map(root, 0x7000, page, READ_ONLY)
    before = bytes(system.memory.read(0x10_0000, SIZE - 0x10_0000))
    for access, fault in (
        (system.write(0x7010, bytes([255] * 100)), (15, 3, DEVICE, 0x7010)),
        (system.read(0x8020, 64), (13, 2, DEVICE, 0x8020)),
        (system.read(0x7000, 64, device=9), (258, 2, 9, 0x7000)),
        (system.read(0x7000, 64, address_type=2), (260, 6, DEVICE, 0x7000)),
    ):
        assert (await access).resp == AxiResp.SLVERR
        await system.clocks_until(lambda: int(dut.interrupts.value) == 1 << FAULT_WIRE, "the interrupt")
        assert await system.fault() == fault
        await system.registers.write_dword(IPSR, 2)
        await ClockCycles(dut.clk, 4)
        assert int(dut.interrupts.value) == 0
    assert system.memory.read(0x10_0000, SIZE - 0x10_0000) == before
    assert (await system.read(0x7000, 64)).resp == AxiResp.OKAY


@cocotb.test()
async def after_invalidation_and_fence_nothing_old_is_used(dut):
    system = System(dut)
    await system.start()
    root = system.attach(pscid=3)
    pages = [system.page() for _ in range(20)]
    for number, page in enumerate(pages):
        system.memory.write(page, bytes([number]) * 16)
    system.map(root, 0x9000, pages[0])
    assert (await system.read(0x9000, 16)).data == bytes(16)
    for number, page in enumerate(pages[1:], 1):
        system.map(root, 0x9000, page)
        await system.command(1 | 1 << 10 | 3 << 12 | 1 << 32, 0x9000 >> 12 << 10)
        await system.fence()
        assert (await system.read(0x9000, 16)).data == bytes([number]) * 16


@cocotb.test()
async def a_device_is_told_to_drop_its_own_translations(dut):
    system = System(dut)
    await system.start()
    system.attach(tc=0b10)
    page = system.page()
    system.memory.write(page, b"translated data.")
    assert (await system.read(page, 16, address_type=2)).data == b"translated data."
    await system.command(4 | 0x0105 << 40, 0xABCD_E000)
    await system.clocks_until(lambda: dut.invalidate_valid.value == 1, "the message to the device")
    assert int(dut.invalidate_device_id.value) == 0x0105
    assert int(dut.invalidate_address.value) == 0xABCDE
    tag = int(dut.invalidate_tag.value)
    fence = cocotb.start_soon(system.fence())
    await ClockCycles(dut.clk, 200)
    assert not fence.done()
    dut.invalidated_tag.value = tag
    dut.invalidated_device_id.value = 0x0105
    dut.invalidated_valid.value = 1
    await RisingEdge(dut.clk)
    await system.clocks_until(lambda: dut.invalidated_ready.value == 1, "the completion to be taken")
    dut.invalidated_valid.value = 0
    await with_timeout(fence, 20, "us")
