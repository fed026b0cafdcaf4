# SPDX-License-Identifier: BSD-2-Clause
"""Inside the simulator: the exported NIC between cocotbext-axi's models, and a driver of plain struct formats.

Nothing here comes from this project but the numbers of its register map and entries, written out: a second reading of
the interface.
"""

import itertools
import random
import struct

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiBus,
    AxiLiteBus,
    AxiLiteMaster,
    AxiRam,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

ENTRIES = 64
FILL_RING, RX_COMPLETIONS, TX_RING, TX_COMPLETIONS = 0x10000, 0x11000, 0x12000, 0x13000
RX_BUFFERS, TX_BUFFERS, BUFFER = 0x40000, 0x80000, 2048
CONTROL, STATUS, RX_FRAMES, TX_FRAMES = 0x010, 0x018, 0x400, 0x600
QUEUE = 0x1000  #: page of queue 0
RX_DOORBELL, TX_DOORBELL, ARM = QUEUE + 0x800, QUEUE + 0x808, QUEUE + 0x810
SIZES = (60, 61, 64, 127, 128, 594, 1514, 2047, 2048, 2049, 5000, 9216)


class Host:
    """Memory, registers and wire of one queue."""

    def __init__(self, dut):
        self.dut = dut
        self.memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 20)
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        self.wire_in = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_rx"), dut.clk, dut.rst)
        self.wire_out = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_tx"), dut.clk, dut.rst)
        self.posted = self.received = self.sent = self.reclaimed = 0

    async def start(self):
        """Reset, then bring queue 0 up."""
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 6400, unit="ps").start())
        dut.carrier.value = 1
        dut.interrupt_ready.value = 1
        dut.rst.value = 1
        await ClockCycles(dut.clk, 4)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 4)
        rings = ((0x00, FILL_RING), (0x10, RX_COMPLETIONS), (0x30, TX_RING), (0x40, TX_COMPLETIONS))
        for register, address in rings:
            self.memory.write(address, bytes(0x1000))
            await self.registers.write_qword(QUEUE + register, address)
            await self.registers.write_qword(QUEUE + register + 8, ENTRIES)
        await self.registers.write_qword(QUEUE + 0x20, 1)
        await self.registers.write_qword(QUEUE + 0x50, 1)
        await self.post(48)
        await self.registers.write_qword(CONTROL, 0b11)

    async def post(self, count):
        """Hand over empty buffers."""
        for _ in range(count):
            slot = self.posted % ENTRIES
            entry = struct.pack("<QHHI", RX_BUFFERS + slot * BUFFER, BUFFER, self.posted, 0)
            self.memory.write(FILL_RING + 16 * slot, entry)
            self.posted += 1
        await self.registers.write_qword(RX_DOORBELL, self.received << 16 | self.posted)

    async def receive(self):
        """The next frame."""
        frame = b""
        while True:
            address = RX_COMPLETIONS + self.received % ENTRIES * 16
            entry = self.memory.read(address, 16)
            if (entry[15] >> 7) == (self.received // ENTRIES & 1):
                await RisingEdge(self.dut.clk)
                continue
            buffer, length = struct.unpack_from("<HH", entry)
            frame += self.memory.read(RX_BUFFERS + buffer % ENTRIES * BUFFER, length)
            self.received += 1
            await self.post(1)
            if entry[15] & 1:
                return frame

    async def transmit(self, frame, pieces):
        """Put a frame on the TX ring."""
        step = -(-len(frame) // pieces)
        for start in range(0, len(frame), step):
            piece = frame[start : start + step]
            last = start + step >= len(frame)
            address = TX_BUFFERS + self.sent % 32 * 0x2800 + self.sent % 9
            self.memory.write(address, piece)
            flags = 0b11 if last else 0
            entry = struct.pack("<QHHI", address, len(piece), self.sent & 0xFFFF, 1 | flags << 24)
            self.memory.write(TX_RING + self.sent % ENTRIES * 16, entry)
            self.sent += 1
        await self.registers.write_qword(TX_DOORBELL, self.reclaimed << 16 | self.sent)
        while True:
            entry = self.memory.read(TX_COMPLETIONS + self.reclaimed % ENTRIES * 16, 16)
            if (entry[15] >> 7) != (self.reclaimed // ENTRIES & 1):
                break
            await RisingEdge(self.dut.clk)
        index, error = struct.unpack_from("<H", entry, 2)[0], entry[14] & 0xF
        assert (index, error) == (self.sent, 0)
        self.reclaimed += 1


def stalls(seed, often):
    """Pause pattern of a channel: true for a pause."""
    rng = random.Random(seed)
    return (rng.random() < often for _ in itertools.count())


def pause(host, often):
    """Random stalls on every channel that may stall."""
    write, read = host.memory.write_if, host.memory.read_if
    channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel, host.wire_out)
    for seed, channel in enumerate(channels):
        channel.set_pause_generator(stalls(seed, often))


async def move(host, seed):
    """Every size both ways, byte-exact."""
    rng = random.Random(seed)
    frames = [rng.randbytes(size) for size in SIZES for _ in range(2)]
    rng.shuffle(frames)

    async def offer():
        for frame in frames:
            await host.wire_in.send(AxiStreamFrame(frame))
            await host.wire_in.wait()
            await ClockCycles(host.dut.clk, 40 + len(frame) // 2)

    offering = cocotb.start_soon(offer())
    for frame in frames:
        received = await with_timeout(host.receive(), 300, "us")
        assert received == frame, f"frame of {len(frame)} bytes arrived as {len(received)} others"
        await with_timeout(host.transmit(frame, 1 + len(frame) % 3), 300, "us")
        sent = await with_timeout(host.wire_out.recv(), 300, "us")
        assert bytes(sent.tdata) == frame, f"frame of {len(frame)} bytes left as {len(sent.tdata)} others"
        assert sent.tuser == 0
    await offering
    await host.registers.write_qword(CONTROL, 0b1011)
    counts = [await host.registers.read_qword(register) for register in (RX_FRAMES, TX_FRAMES)]
    assert counts == [len(frames)] * 2


@cocotb.test()
async def frames_move_both_ways(dut):
    host = Host(dut)
    await host.start()
    await move(host, 1)


@cocotb.test()
async def frames_move_both_ways_under_stalls(dut):
    host = Host(dut)
    await host.start()
    pause(host, 0.3)
    await move(host, 2)


@cocotb.test()
async def an_armed_interrupt_carries_its_vector_and_waits(dut):
    host = Host(dut)
    await host.start()
    dut.interrupt_ready.value = 0
    await host.registers.write_qword(QUEUE + 0x60, 0xBEEF << 32)
    await host.registers.write_qword(ARM, 0)
    await host.wire_in.send(AxiStreamFrame(bytes(60)))
    await with_timeout(RisingEdge(dut.interrupt_valid), 100, "us")
    await ClockCycles(dut.clk, 50)
    assert dut.interrupt_valid.value == 1
    assert dut.interrupt_vector.value == 0xBEEF
    dut.interrupt_ready.value = 1
    await ClockCycles(dut.clk, 3)
    assert dut.interrupt_valid.value == 0


@cocotb.test()
async def a_damaged_frame_and_a_wrong_register_are_refused(dut):
    host = Host(dut)
    await host.start()
    await host.wire_in.send(AxiStreamFrame(bytes(64), tuser=[0] * 63 + [1]))
    await host.wire_in.wait()
    await ClockCycles(dut.clk, 100)
    await host.registers.write_qword(CONTROL, 0b1011)
    assert await host.registers.read_qword(RX_FRAMES + 0x78) == 1
    assert (await host.registers.read(0x3F8, 8)).resp.name == "DECERR"
    assert (await host.registers.write(STATUS, bytes(8))).resp.name == "SLVERR"
