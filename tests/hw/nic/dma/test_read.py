# SPDX-License-Identifier: BSD-2-Clause
"""DmaReader: the bytes of each command come back in order, from lane 0, without gaps, with their errors."""

import random
from dataclasses import dataclass, field

import pytest
from amaranth.sim import Simulator

from hw.abi.rings import AddressType
from hw.config import preset
from hw.nic.dma.read import DmaReader
from tests.hw.axi_memory import AxiMemory
from tests.hw.nic.queue_writes import write_register
from tests.hw.streams import receive, send

SIZE = 1 << 16


@dataclass
class Answer:
    data: bytes
    error: bool
    cycles: list[int]


@dataclass
class Client:
    transfers: list[tuple[int, int]]
    answers: list[Answer] = field(default_factory=list)


class Bench:
    """A reader before a memory of random bytes."""

    def __init__(self, config, ids, memory, *, pause=0.0, seed=0):
        self.config, self.memory, self.pause = config, memory, pause
        memory.data[:] = random.Random(seed).randbytes(len(memory.data))
        self.dut = DmaReader(config, ids)
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        memory.attach_read(self.sim, self.dut.axi_ar, self.dut.axi_r)

    def client(self, index, transfers, *, pause=None):
        port, client = self.dut.clients[index], Client(transfers)
        pause = self.pause if pause is None else pause
        random_ = random.Random(index)

        async def rest(ctx):
            while random_.random() < pause:
                await ctx.tick()

        async def commands(ctx):
            for address, length in transfers:
                await rest(ctx)
                await send(ctx, port.command, {"address": address, "length": length}, name=f"client {index} command")

        async def data(ctx):
            for _ in transfers:
                raw, last, cycles = bytearray(), False, []
                while not last:
                    await rest(ctx)
                    beat = await receive(ctx, port.data, name=f"client {index} data")
                    last = beat.last
                    cycles.append(self.memory.cycle)
                    assert beat.count == self.config.beat_bytes or last
                    assert last or not beat.error
                    raw += beat.data.to_bytes(self.config.beat_bytes, "little")[: beat.count]
                client.answers.append(Answer(bytes(raw), bool(beat.error), cycles))

        self.sim.add_testbench(commands)
        self.sim.add_testbench(data)
        return client


@pytest.mark.parametrize(
    ("width", "burst", "ids", "stall", "pause", "interleave", "seed"),
    [
        (64, 512, (1, 1, 1), 0.0, 0.0, False, 1),
        (64, 64, (1, 1, 1), 0.3, 0.3, True, 2),
        (64, 2048, (1, 1, 1), 0.0, 0.0, True, 3),
        (128, 256, (1, 1, 1), 0.3, 0.0, True, 4),
        (512, 512, (1, 1, 1), 0.2, 0.2, True, 5),
        (64, 512, (1, 1, 8), 0.0, 0.0, True, 6),
        (64, 64, (2, 1, 4), 0.3, 0.3, True, 7),
        (128, 256, (4, 4, 32), 0.3, 0.0, True, 8),
        (256, 4096, (1, 1, 2), 0.0, 0.3, True, 9),
        (512, 64, (1, 1, 16), 0.2, 0.2, True, 10),
        (512, 512, (1, 1, 4), 0.0, 0.0, False, 11),
    ],
)
def test_every_byte_comes_back_in_order(width, burst, ids, stall, pause, interleave, seed):
    print(f"seed {seed}")
    random_ = random.Random(seed)
    config = preset("10g", data_width=width, max_burst_bytes=burst, outstanding_reads=5 if max(ids) == 1 else 11)
    memory = AxiMemory(SIZE, seed=seed, stall=stall, latency=(1, 40), interleave=interleave)
    bench = Bench(config, ids, memory, pause=pause, seed=seed)
    clients = []
    for index in range(3):
        lengths = [random_.choice((1, 7, 8, 16, 60, 64, random_.randint(1, 500))) for _ in range(30)]
        clients.append(bench.client(index, [(random_.randrange(SIZE - 600), length) for length in lengths]))
    bench.sim.run()
    assert memory.idle
    for client in clients:
        expected = [bytes(memory.data[address : address + length]) for address, length in client.transfers]
        assert [answer.data for answer in client.answers] == expected
        assert not any(answer.error for answer in client.answers)
    for burst_ in memory.reads:
        last = burst_.address + burst_.beats * config.beat_bytes - 1
        assert burst_.address // burst == last // burst
    for index, count in enumerate(ids):
        numbers = [burst_.id >> 2 for burst_ in memory.reads if burst_.id & 3 == index]
        assert numbers == [number % count for number in range(len(numbers))]


@pytest.mark.parametrize("ids", [1, 8])
@pytest.mark.parametrize(
    ("width", "transfers"),
    [
        (64, [(64 * i, 60) for i in range(50)]),
        (64, [(64 * i + 2, 60) for i in range(50)]),
        (64, [(16 * i, 8) for i in range(100)]),
        (512, [(128 * i + 9, 64) for i in range(100)]),
        (512, [(64 * i, 60) for i in range(100)]),
    ],
)
def test_consecutive_commands_have_no_bubble(width, transfers, ids):
    memory = AxiMemory(SIZE, latency=20, interleave=False)
    bench = Bench(preset("10g", data_width=width), [ids], memory)
    client = bench.client(0, transfers)
    bench.sim.run()
    assert len(client.answers) == len(transfers)
    cycles, width_bytes = memory.read_beat_cycles, width // 8
    assert len(cycles) == sum((a + n - 1) // width_bytes - a // width_bytes + 1 for a, n in transfers)
    assert cycles[-1] - cycles[0] == len(cycles) - 1
    # What memory gave without a bubble, the client gets without one; but of unaligned commands less comes out.
    given = [cycle for answer in client.answers for cycle in answer.cycles]
    later = 3 if ids == 1 else 7
    assert given[-1] - cycles[-1] in (later, later + 1)


def test_a_commands_first_address_is_offered_seven_cycles_later():
    memory = AxiMemory(SIZE)
    bench = Bench(preset("10g"), [1, 1], memory)
    taken = []

    async def client(ctx):
        await ctx.tick().repeat(10)
        taken.append(memory.cycle)
        await send(ctx, bench.dut.clients[1].command, {"address": 0, "length": 8})
        ctx.set(bench.dut.clients[1].data.ready, 1)
        await ctx.tick().repeat(20)

    bench.sim.add_testbench(client)
    bench.sim.run()
    assert memory.reads[0].cycle - taken[0] - 1 == 7


def test_only_a_leftover_before_an_aligned_command_costs_a_cycle():
    """62 bytes from lane 2 touch 8 beats and fill 8: one cycle is lost before the aligned command behind them."""
    memory = AxiMemory(SIZE, latency=20)
    bench = Bench(preset("10g"), [1], memory)
    bench.client(0, [(64 * i + 2 * (i % 2 == 0), 62) for i in range(50)])
    bench.sim.run()
    cycles = memory.read_beat_cycles
    assert cycles[-1] - cycles[0] == len(cycles) - 1 + 25


def test_r_never_waits_for_a_client_with_several_ids():
    """It takes hardly anything, and its commands leave what costs a cycle each: R is always taken, and the other
    client gets its data."""
    memory = AxiMemory(SIZE, latency=20)
    bench = Bench(preset("10g", max_burst_bytes=64), [1, 8], memory)
    other = bench.client(0, [(0x4000 + 64 * i, 64) for i in range(10)])
    slow = bench.client(1, [(64 * i + 2 * (i % 2 == 0), 62) for i in range(30)], pause=0.9)
    refused = []

    async def watch(ctx):
        r = bench.dut.axi_r
        async for _, _, valid, ready in ctx.tick().sample(r.valid, r.ready):
            if valid and not ready:
                refused.append(memory.cycle)

    bench.sim.add_process(watch)
    bench.sim.run()
    assert len(slow.answers) == 30
    assert refused == []
    assert other.answers[-1].cycles[-1] < 400


def test_a_client_with_many_commands_under_way_stands_back():
    """It takes no data, so that of its commands only as many are accepted as its bound says and as lie behind it in
    registers; the other client's pass."""
    memory = AxiMemory(SIZE, latency=20)
    config = preset("10g", outstanding_reads=4)
    bench = Bench(config, [1, 64], memory)
    other = bench.client(0, [(0x4000 + 64 * i, 64) for i in range(60)])
    accepted = []

    async def greedy(ctx):
        port = bench.dut.clients[1].command
        ctx.set(port.payload, {"address": 0, "length": 8})
        ctx.set(port.valid, 1)
        async for _, _, ready in ctx.tick().sample(port.ready):
            if ready:
                accepted.append(memory.cycle)

    bench.sim.add_process(greedy)
    bench.sim.run()
    assert len(other.answers) == 60
    # Its data skid buffers are full when their beats, one of each command, have nowhere to go.
    assert config.outstanding_reads + 16 <= len(accepted) <= config.outstanding_reads + 16 + 4
    assert accepted[-1] < other.answers[30].cycles[-1]


@pytest.mark.parametrize("ids", [1, 4])
def test_a_far_page_holds_up_its_own_id_alone(ids):
    """The first of 16 reads comes 500 cycles late; what has another ID than it lands before."""
    memory = AxiMemory(SIZE, latency=20)
    memory.delay(range(0x8000, 0x9000), 500)
    bench = Bench(preset("10g", max_burst_bytes=64, outstanding_reads=16), [ids], memory)
    client = bench.client(0, [(0x8000, 64)] + [(64 * i, 64) for i in range(15)])
    bench.sim.run()
    early = sum(cycle < 400 for cycle in memory.read_beat_cycles)
    assert early == 8 * 16 * (ids - 1) // ids
    assert client.answers[0].data == memory.data[0x8000:0x8040]
    assert [answer.data for answer in client.answers[1:]] == [memory.data[64 * i : 64 * i + 64] for i in range(15)]
    given = [cycle for answer in client.answers for cycle in answer.cycles]
    if ids > 1:
        assert given[-1] - given[0] == len(given) - 1


@pytest.mark.parametrize("ids", [1, 4])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_errors_mark_their_command_alone(stall, ids):
    memory = AxiMemory(SIZE, seed=4, stall=stall, latency=(1, 60))
    bench = Bench(preset("10g", max_burst_bytes=64), [ids, ids], memory)
    memory.fail(range(0x1100, 0x1108))
    transfers = [(0x1000, 100), (0x1003, 300), (0x1108, 8), (SIZE - 8, 16), (0x1107, 1), (0x1101, 7), (0x2001, 8)]
    client, other = bench.client(0, transfers), bench.client(1, [(0x3000 + i, 70) for i in range(10)])
    bench.sim.run()
    assert [answer.error for answer in client.answers] == [False, True, False, True, True, True, False]
    assert [len(answer.data) for answer in client.answers] == [length for _, length in transfers]
    assert not any(answer.error for answer in other.answers)


@pytest.mark.parametrize("ids", [1, 4])
@pytest.mark.parametrize("bound", [1, 3, 32])
def test_outstanding_bursts_are_bounded(bound, ids):
    memory = AxiMemory(SIZE, latency=100)
    bench = Bench(preset("10g", outstanding_reads=bound, max_burst_bytes=64), [1, ids], memory)
    bench.client(0, [(64 * i, 64) for i in range(2 * bound)])
    bench.client(1, [(0x1000, 512)])
    bench.sim.run()
    first_answer = memory.read_beat_cycles[7]
    assert sum(burst.cycle < first_answer for burst in memory.reads) == min(bound, len(memory.reads))


def test_clients_take_turns_and_use_their_own_ids():
    memory = AxiMemory(SIZE)
    bench = Bench(preset("10g"), [1, 1, 1], memory)
    for index in range(3):
        bench.client(index, [(0x1000 * index + 8 * i, 8) for i in range(20)])
    bench.sim.run()
    order = [burst.address >> 12 for burst in memory.reads]
    assert order == [burst.id for burst in memory.reads]
    assert order[3:57] == order[:3] * 18


def test_sideband_names_device_and_process():
    memory = AxiMemory(SIZE)
    bench = Bench(preset("10g"), [1], memory)

    async def testbench(ctx):
        ctx.set(bench.dut.device_id, 0x123456)
        await write_register(ctx, bench.dut.queue_write, "context", 1, process_id=0xABCDE, process_id_valid=1)
        for queue in (0, 1):
            await send(ctx, bench.dut.clients[0].command, {"address": 0, "length": 8, "queue": queue})
            await receive(ctx, bench.dut.clients[0].data)

    bench.sim.add_testbench(testbench)
    bench.sim.run()
    assert [burst.user for burst in memory.reads] == [0x123456, 0x123456 | 0xABCDE << 24 | 1 << 44]


@pytest.mark.parametrize("kind", AddressType)
def test_what_can_be_carried_for_others_has_no_process(kind):
    memory = AxiMemory(SIZE)
    bench = Bench(preset("10g", pools=1, ats=True), [1], memory)

    async def testbench(ctx):
        await write_register(ctx, bench.dut.queue_write, "context", 1, process_id=7, process_id_valid=1)
        command = {"address": 0, "length": 8, "queue": 1, "address_type": kind}
        await send(ctx, bench.dut.clients[0].command, command | {"named": 0, "pool": 0, "buffer_id": 0})
        await receive(ctx, bench.dut.clients[0].data)

    bench.sim.add_testbench(testbench)
    bench.sim.run()
    valid = kind in (AddressType.UNTRANSLATED, AddressType.PREFETCH)
    assert [burst.user >> 44 for burst in memory.reads] == [kind.value << 1 | valid]


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="Clients must be 1..16, not 0"):
        DmaReader(preset("10g"), [])
    message = "IDs of one of 3 clients must be a power of two in 1..{} with IDs of {} bits, not {}"
    for ids, width, most in ((3, 8, 64), (128, 8, 64), (2, 2, 1)):
        with pytest.raises(ValueError, match=message.format(most, width, ids)):
            DmaReader(preset("10g"), [1, 1, ids], id_width=width)
