# SPDX-License-Identifier: BSD-2-Clause
"""DmaWriter: bytes land where commands say, in order, without gaps, and responses find their command."""

import random
from dataclasses import dataclass

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.dma.write import DmaWriter
from tests.hw.axi_memory import AxiMemory
from tests.hw.nic.queue_writes import write_register
from tests.hw.streams import receive, send, until

SIZE = 1 << 16


@dataclass
class Transfer:
    address: int
    data: bytes
    queue: int = 0


class Bench:
    """A writer before a memory, with one list of transfers for each client."""

    def __init__(self, config, clients, memory, *, pause=0.0, seed=0):
        self.config, self.memory = config, memory
        self.pause, self.random = pause, random.Random(seed)
        self.dut = DmaWriter(config, clients)
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        memory.attach_write(self.sim, self.dut.axi_aw, self.dut.axi_w, self.dut.axi_b)
        self.done = [[] for _ in range(clients)]

    def client(self, index, transfers):
        port = self.dut.clients[index]
        width = self.config.beat_bytes
        random_ = random.Random(index)

        async def rest(ctx):
            while random_.random() < self.pause:
                await ctx.tick()

        async def commands(ctx):
            for transfer in transfers:
                await rest(ctx)
                await send(
                    ctx,
                    port.command,
                    {"address": transfer.address, "length": len(transfer.data), "queue": transfer.queue},
                    name=f"client {index} command",
                )

        async def beats(ctx):
            for transfer in transfers:
                for start in range(0, len(transfer.data), width):
                    piece = transfer.data[start : start + width]
                    await rest(ctx)
                    await send(
                        ctx,
                        port.data,
                        {
                            # Lanes beyond the count hold garbage.
                            "data": int.from_bytes(piece.ljust(width, b"\xee"), "little"),
                            "count": len(piece),
                            "last": start + width >= len(transfer.data),
                        },
                        name=f"client {index} data",
                    )

        async def responses(ctx):
            for _ in transfers:
                await rest(ctx)
                answer = await receive(ctx, port.done, name=f"client {index} done", bound=20000)
                self.done[index].append((self.memory.cycle, answer.error))

        for testbench in (commands, beats, responses):
            self.sim.add_testbench(testbench)


def random_transfers(random_, count, region, longest):
    """Transfers to places of their own within a region, in random order."""
    transfers, address = [], region.start
    for _ in range(count):
        length = random_.choice((1, 7, 8, 16, 60, 64, random_.randint(1, longest)))
        address += random_.choice((0, 0, 1, random_.randint(0, 70)))
        transfers.append(Transfer(address, random_.randbytes(length)))
        address += length
    assert address <= region.stop
    random_.shuffle(transfers)
    return transfers


@pytest.mark.parametrize(
    ("width", "burst", "stall", "pause", "seed"),
    [
        (64, 512, 0.0, 0.0, 1),
        (64, 64, 0.4, 0.3, 2),
        (64, 2048, 0.2, 0.0, 3),
        (128, 128, 0.3, 0.3, 4),
        (512, 512, 0.3, 0.1, 5),
    ],
)
def test_every_byte_lands(width, burst, stall, pause, seed):
    random_ = random.Random(seed)
    config = preset("10g", data_width=width, max_burst_bytes=burst, outstanding_writes=4)
    memory = AxiMemory(SIZE, seed=seed, stall=stall, latency=(1, 30))
    bench = Bench(config, 3, memory, pause=pause, seed=seed)
    expected = bytearray(random_.randbytes(SIZE))
    memory.data[:] = expected
    for index in range(3):
        region = range(0x5000 * index + 3, 0x5000 * (index + 1))
        transfers = random_transfers(random_, 25, region, 700)
        for transfer in transfers:
            expected[transfer.address : transfer.address + len(transfer.data)] = transfer.data
        bench.client(index, transfers)
    bench.sim.run()
    assert memory.idle
    assert memory.data == expected
    assert all(len(done) == 25 and not any(error for _, error in done) for done in bench.done)
    for burst_ in memory.writes:
        last = burst_.address + burst_.beats * config.beat_bytes - 1
        assert burst_.address // burst == last // burst


def test_line_rate_pattern_has_no_bubble():
    """A 60-byte frame and a quarter of a completion line are 10 W beats, and take 10 cycles."""
    memory = AxiMemory(SIZE, latency=20)
    bench = Bench(preset("10g"), 2, memory)
    frames = [Transfer(64 * i, bytes([i]) * 60) for i in range(100)]
    completions = [Transfer(0x8000 + 16 * i, bytes([i]) * 16) for i in range(100)]
    bench.client(0, frames)
    bench.client(1, completions)
    bench.sim.run()
    cycles = [beat.cycle for beat in memory.write_beats]
    assert len(cycles) == 100 * 10
    assert cycles[-1] - cycles[0] == len(cycles) - 1


@pytest.mark.parametrize("width", [64, 512])
def test_single_beats_and_unaligned_commands_have_no_bubble(width):
    config = preset("10g", data_width=width)
    memory = AxiMemory(SIZE, latency=10)
    bench = Bench(config, 1, memory)
    step = 2 * config.beat_bytes
    transfers = [Transfer(step * i + 5, bytes([i]) * (config.beat_bytes if i % 3 else 3)) for i in range(200)]
    bench.client(0, transfers)
    bench.sim.run()
    cycles = [beat.cycle for beat in memory.write_beats]
    assert len(cycles) == sum(2 if i % 3 else 1 for i in range(200))
    assert cycles[-1] - cycles[0] == len(cycles) - 1


def test_latency_of_address_data_and_done():
    memory = AxiMemory(SIZE, latency=1)
    bench = Bench(preset("10g"), 2, memory)
    taken, answered = [], []

    async def client(ctx):
        await ctx.tick().repeat(10)
        port = bench.dut.clients[1]
        ctx.set(port.data.valid, 1)
        ctx.set(port.data.payload, {"data": 1, "count": 8, "last": 1})
        taken.append(memory.cycle)
        await send(ctx, port.command, {"address": 0, "length": 8})
        await until(ctx, port.data.ready, name="data to be taken")
        ctx.set(port.data.valid, 0)
        await until(ctx, bench.dut.axi_b.valid, name="the response")
        answered.append(memory.cycle)
        await receive(ctx, port.done, name="done")
        answered.append(memory.cycle)

    bench.sim.add_testbench(client)
    bench.sim.run()
    assert memory.writes[0].cycle - taken[0] - 1 == 7
    assert memory.write_beats[0].cycle - taken[0] - 1 == 10
    assert answered[1] - answered[0] == 2


def test_clients_take_turns():
    memory = AxiMemory(SIZE)
    bench = Bench(preset("10g"), 3, memory)
    for index in range(3):
        bench.client(index, [Transfer(0x1000 * index + 8 * i, bytes(8)) for i in range(20)])
    bench.sim.run()
    order = [burst.address >> 12 for burst in memory.writes]
    assert order[3:57] == order[:3] * 18


def test_errors_mark_their_command_alone():
    memory = AxiMemory(SIZE, seed=5, stall=0.2, latency=(2, 20))
    memory.fail(range(0x1400, 0x1408))
    bench = Bench(preset("10g", max_burst_bytes=64), 1, memory)
    # The second covers the failing address with a burst in its middle, the third lies outside memory.
    bench.client(
        0,
        [Transfer(0x1000, b"a" * 256), Transfer(0x1380, b"b" * 256), Transfer(SIZE, b"c"), Transfer(0x1500, b"d" * 9)],
    )
    bench.sim.run()
    assert [error for _, error in bench.done[0]] == [0, 1, 1, 0]
    assert memory.data[0x1440:0x1480] == b"b" * 64


@pytest.mark.parametrize("bound", [1, 3, 32])
def test_outstanding_bursts_are_bounded(bound):
    memory = AxiMemory(SIZE, latency=60)
    bench = Bench(preset("10g", outstanding_writes=bound, max_burst_bytes=64), 1, memory)
    bench.client(0, [Transfer(64 * i, bytes(64)) for i in range(2 * bound)])
    bench.sim.run()
    done = [cycle for cycle, _ in bench.done[0]]
    waiting = [sum(burst.cycle < end for burst in memory.writes) - i for i, end in enumerate(done)]
    assert max(waiting) <= bound
    if bound == 3:
        assert max(waiting) == bound


def test_done_follows_the_data():
    memory = AxiMemory(SIZE, seed=9, stall=0.3, latency=(5, 50))
    bench = Bench(preset("10g"), 1, memory)
    visible = []
    memory.on_write = lambda address, data: visible.append((memory.cycle, address))
    bench.client(0, [Transfer(0x100 * i, bytes(40)) for i in range(30)])
    bench.sim.run()
    for i, (cycle, _) in enumerate(bench.done[0]):
        assert max(at for at, address in visible if address >> 8 == i) < cycle


def test_sideband_names_device_and_process():
    memory = AxiMemory(SIZE)
    bench = Bench(preset("10g"), 1, memory)
    bench.client(0, [])

    async def testbench(ctx):
        ctx.set(bench.dut.device_id, 0x123456)
        await ctx.tick().repeat(2)
        await write_register(ctx, bench.dut.queue_write, "context", 1, process_id=0xABCDE, process_id_valid=1)
        for queue in (0, 1):
            await send(ctx, bench.dut.clients[0].command, {"address": 0, "length": 8, "queue": queue})
            await send(ctx, bench.dut.clients[0].data, {"data": 0, "count": 8, "last": 1})
        await ctx.tick().repeat(20)

    bench.sim.add_testbench(testbench)
    bench.sim.run()
    assert [burst.user for burst in memory.writes] == [0x123456, 0x123456 | 0xABCDE << 24 | 1 << 44]


@pytest.mark.parametrize("clients", [0, 17, 1.5])
def test_number_of_clients_is_checked(clients):
    with pytest.raises(ValueError, match=f"Clients must be an integer in 1..16, not {clients}"):
        DmaWriter(preset("10g"), clients)
