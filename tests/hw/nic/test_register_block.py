# SPDX-License-Identifier: BSD-2-Clause
"""Every register answers as described, and every wrong access is answered too."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.abi.rings import QueueState
from hw.bus.axi4 import Response
from hw.config import preset
from hw.nic.lifecycle import QueueStatus
from hw.nic.register_block import RegisterBlock, register_layout
from hw.nic.register_set import pulses
from hw.nic.rx.interfaces import HeaderArea, HeaderSetting
from tests.hw.axi_lite import RegisterMaster

QUEUES, POOLS = 5, 3
MAP = register_map(QUEUES, pools=POOLS)
RING_REGISTERS = [
    f"{ring}_{what}" for ring in ("rx_fill", "rx_completion", "tx_ring", "tx_completion") for what in ("base", "size")
] + ["rx_header", "rx_pool", "tx_pools"]
BUILT = {"ats": True, "classify": True, "rss": True, "steering_rules": 64, "header_split": True, "pools": POOLS}


def simulate(bench):
    """Run a bench of (ctx, block, master, writes): writes lists the broadcast (page, name, data)."""
    block = RegisterBlock(preset("10g", queues=QUEUES, **BUILT))
    reset = Signal()
    writes = []

    async def keep_table(ctx):
        port, rows = block.rss_table, [0] * 16
        async for _, _, row, write, data, resets in ctx.tick().sample(port.row, port.write, port.data, reset):
            if write:
                rows[row] = data
            if resets:
                rows = [0] * 16
            ctx.set(port.value, rows[row])

    def listener(broadcast, kind):
        async def listen(ctx):
            names = [name for name, _ in broadcast.at.shape()]
            page = getattr(broadcast, kind)
            async for _, _, at, number, word in ctx.tick().sample(broadcast.at, page, broadcast.data):
                writes.extend(({kind: number}, name, word) for name in names if at[name])

        return listen

    async def run(ctx):
        await bench(ctx, block, RegisterMaster(block.bus, QUEUES, POOLS), writes)

    block.reset = reset
    sim = Simulator(ResetInserter(reset)(block))
    sim.add_clock(1e-6)
    sim.add_testbench(listener(block.write, "queue"), background=True)
    sim.add_testbench(listener(block.pool_write, "pool"), background=True)
    sim.add_process(keep_table)
    sim.add_testbench(run)
    sim.run()


def set_state(ctx, block, direction, queue, state):
    ctx.set(getattr(block, f"{direction}_status")[queue].state, state)


def registers():
    """Page, as :meth:`~hw.abi.registers.RegisterMap.address` wants it, and name and description of each register."""
    yield from (({}, name, register) for name, register in MAP.port.items())
    yield from (({"queue": queue}, name, register) for queue in range(QUEUES) for name, register in MAP.queue.items())
    yield from (({"pool": pool}, name, register) for pool in range(POOLS) for name, register in MAP.pool.items())


def test_status_layout_is_the_described_one():
    status = register_layout(MAP.queue["rx_status"])
    for name in ("state", "stopped"):
        assert status[name].offset == QueueStatus.as_shape()[name].offset
    assert status["error"].offset == QueueStatus.as_shape()["error"].offset
    assert status.size == QueueStatus.as_shape().size


def test_the_layout_of_the_header_area_is_the_described_one():
    area = register_layout(MAP.queue["rx_header"])
    setting = HeaderSetting.as_shape()
    assert area["address"] == HeaderArea.as_shape()["address"]
    assert [area[name] for name, _ in setting] == [field for _, field in setting]
    assert area.size == HeaderArea.as_shape().size


def test_registers_have_their_reset_values_and_permissions():
    async def bench(ctx, block, master, writes):
        for page, name, register in registers():
            value, response = await master.read_at(ctx, MAP.address(name, **page))
            if not register.readable:
                assert (value, response) == (0, Response.SLVERR), name
            else:
                assert response is Response.OKAY, name
            if register.readable and not register.hardware:
                assert value == register.reset, name
            if not register.writable:
                assert await master.write_at(ctx, MAP.address(name, **page), 1) is Response.SLVERR, name
        assert writes == []

    simulate(bench)


def test_what_is_written_reads_back_and_reset_forgets_it():
    seed = 5
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def bench(ctx, block, master, writes):
        written, broadcast = [], []
        for page, name, register in registers():
            if register.writable:
                word = rng.getrandbits(64)
                if name in ("control", "rx_control", "tx_control"):
                    word &= 1
                elif name.startswith("rss_table"):
                    word = int.from_bytes(rng.randrange(QUEUES) for _ in range(8))
                elif name.endswith("_doorbell"):
                    continue
                assert await master.write_at(ctx, MAP.address(name, **page), word) is Response.OKAY
                if register.readable:
                    written.append((page, name, register, word & register.mask & ~pulses(register)))
                if page:
                    broadcast.append((page, name, word & register.mask))
        for page, name, _, word in written:
            assert await master.read_at(ctx, MAP.address(name, **page)) == (word, Response.OKAY), (name, page)
        await ctx.tick()
        assert writes == broadcast
        ctx.set(block.reset, 1)
        await ctx.tick()
        ctx.set(block.reset, 0)
        for page, name, register, _ in written:
            found = await master.read_at(ctx, MAP.address(name, **page))
            assert found == (register.reset, Response.OKAY), (name, page)

    simulate(bench)


def test_port_registers_are_outputs_and_pulses_last_a_cycle():
    async def bench(ctx, block, master, writes):
        assert ctx.get(block.frame_limits.min_length) == 60
        await master.write(ctx, "frame_limits", min_length=64, max_length=1518)
        assert ctx.get(block.frame_limits.max_length) == 1518
        pulses = []

        ctx.set(block.bus.aw.payload.addr, MAP.address("control"))
        ctx.set(block.bus.aw.valid, 1)
        ctx.set(block.bus.w.payload, {"data": MAP.port["control"].pack(rx_enable=1, reset=1, snapshot=1), "strb": 0xFF})
        ctx.set(block.bus.w.valid, 1)
        await ctx.tick()
        ctx.set(block.bus.aw.valid, 0)
        ctx.set(block.bus.w.valid, 0)
        for _ in range(10):
            await ctx.tick()
            pulses.append((ctx.get(block.control.reset), ctx.get(block.control.snapshot)))
        assert pulses.count((1, 1)) == 1, pulses
        assert pulses.count((0, 0)) == len(pulses) - 1, pulses
        assert ctx.get(block.control.rx_enable) == 1
        ctx.set(block.bus.b.ready, 1)
        await ctx.tick()
        ctx.set(block.bus.b.ready, 0)
        assert await master.read(ctx, "control") == 1

    simulate(bench)


@pytest.mark.parametrize(
    ("address", "response"),
    [
        (MAP.address("ats_status") + 8, Response.DECERR),
        (0x3F8, Response.DECERR),
        (0xFF8, Response.DECERR),
        (MAP.address("tx_pools", 0) + 8, Response.DECERR),
        (MAP.address("acknowledge", pool=0) + 8, Response.DECERR),
        (MAP.address("return4", pool=POOLS - 1) + 8, Response.DECERR),
        (MAP.pool_base + POOLS * MAP.queue_stride, Response.DECERR),
        (MAP.pool_base + POOLS * MAP.queue_stride + 0x810, Response.DECERR),
        (MAP.address("device") + 4, Response.SLVERR),
        (MAP.address("moderation", 1) + 1, Response.SLVERR),
        (MAP.address("limit", pool=1) + 4, Response.SLVERR),
    ],
)
def test_wrong_addresses_are_refused(address, response):
    async def bench(ctx, block, master, writes):
        ctx.set(block.counter_value, 77)
        assert await master.write_at(ctx, address, 1) is response
        assert await master.read_at(ctx, address) == (0, response)
        assert writes == []

    simulate(bench)


def test_partial_writes_are_refused():
    async def bench(ctx, block, master, writes):
        for strobe in (0x00, 0x0F, 0x7F, 0xFE):
            assert await master.write_at(ctx, MAP.address("timeouts"), 0, strobe=strobe) is Response.SLVERR
            assert await master.write_at(ctx, MAP.address("moderation", 1), 5, strobe=strobe) is Response.SLVERR
        assert await master.read(ctx, "timeouts") == MAP.port["timeouts"].reset
        assert writes == []

    simulate(bench)


@pytest.mark.parametrize("place", range(8))
def test_an_rss_table_entry_that_names_no_queue_is_refused_with_its_row(place):
    async def bench(ctx, block, master, writes):
        good = int.from_bytes([QUEUES - 1] * 8)
        assert await master.write_at(ctx, MAP.address("rss_table3"), good) is Response.OKAY
        for queue in (QUEUES, 255):
            bad = queue << 8 * place
            assert await master.write_at(ctx, MAP.address("rss_table3"), bad) is Response.SLVERR
        assert await master.write_at(ctx, MAP.address("rss_table2"), 0) is Response.OKAY
        assert await master.read(ctx, "rss_table3") == good

    simulate(bench)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("rss_types", {"steering_rules": 64}),
        ("rss_table15", {}),
        ("rule_flow", {"rss": True}),
        ("rule_status", {}),
        ("rx_header", {"rss": True}),
        ("rx_pool", {}),
        ("tx_pools", {}),
    ],
)
def test_what_is_not_built_in_has_no_registers(name, changes):
    block = RegisterBlock(preset("10g", queues=QUEUES, classify=True, **changes))

    async def bench(ctx):
        master = RegisterMaster(block.bus, QUEUES)
        queue = 1 if name in MAP.queue else None
        assert await master.write_at(ctx, MAP.address(name, queue), 0) is Response.DECERR
        assert await master.read_at(ctx, MAP.address(name, queue)) == (0, Response.DECERR)

    sim = Simulator(block)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_ring_registers_change_only_while_their_direction_is_disabled(direction):
    async def bench(ctx, block, master, writes):
        for state in (QueueState.ENABLED, QueueState.DRAINING, QueueState.ERROR):
            set_state(ctx, block, direction, 1, state)
            for name in RING_REGISTERS:
                refused = name.startswith(direction)
                answer = await master.write_at(ctx, MAP.address(name, 1), 0x141)
                assert answer is (Response.SLVERR if refused else Response.OKAY), (state, name)
                assert await master.write_at(ctx, MAP.address(name, 2), 0x282) is Response.OKAY
                assert await master.read(ctx, name, 1) == (0 if refused else 0x141 & MAP.queue[name].mask)

    simulate(bench)


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_only_a_disabled_direction_starts(direction):
    async def bench(ctx, block, master, writes):
        for state in QueueState:
            set_state(ctx, block, direction, 0, state)
            startable = state in (QueueState.DISABLED, QueueState.ENABLED)
            answer = await master.write(ctx, f"{direction}_control", 0, enable=1)
            assert answer is (Response.OKAY if startable else Response.SLVERR), state
            assert await master.write(ctx, f"{direction}_control", 0, enable=0) is Response.OKAY

    simulate(bench)


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_doorbells_reach_enabled_directions_only(direction):
    async def bench(ctx, block, master, writes):
        name = f"{direction}_doorbell"
        for state in QueueState:
            set_state(ctx, block, direction, 2, state)
            writes.clear()
            assert await master.write_at(ctx, MAP.address(name, 2), 0x30007) is Response.OKAY
            await ctx.tick()
            assert writes == ([({"queue": 2}, name, 0x30007)] if state is QueueState.ENABLED else []), state

    simulate(bench)


def test_reset_in_progress_refuses_writes_and_answers_reads():
    async def bench(ctx, block, master, writes):
        ctx.set(block.resetting, 1)
        ctx.set(block.status.resetting, 1)
        assert await master.write(ctx, "timeouts") is Response.SLVERR
        assert await master.write(ctx, "arm", 0) is Response.SLVERR
        assert await master.field(ctx, "status", "resetting") == 1
        assert writes == []
        ctx.set(block.hold, 1)
        ctx.set(block.bus.ar.valid, 1)
        for _ in range(10):
            await ctx.tick()
            assert not ctx.get(block.bus.ar.ready)
            assert ctx.get(block.idle)
        ctx.set(block.hold, 0)
        assert (await master.read_at(ctx, MAP.address("id")))[1] is Response.OKAY

    simulate(bench)


def test_reads_of_counters_wait_for_the_snapshot():
    async def bench(ctx, block, master, writes):
        ctx.set(block.counters_busy, 1)
        ctx.set(block.counter_value, 77)
        ctx.set(block.bus.ar.payload.addr, MAP.address("rx.frames"))
        ctx.set(block.bus.ar.valid, 1)
        ctx.set(block.bus.r.ready, 1)
        await ctx.tick()
        ctx.set(block.bus.ar.valid, 0)
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(block.bus.r.valid)
        ctx.set(block.counters_busy, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(block.bus.r.valid)
        assert ctx.get(block.bus.r.payload.data) == 77
        assert ctx.get(block.counter_address) == MAP.address("rx.frames")
        await ctx.tick()
        assert await master.read(ctx, "counters.tx_bytes", 2) == 77
        assert ctx.get(block.counter_address) == MAP.address("counters.tx_bytes", 2)

    simulate(bench)


def test_answers_come_when_promised():
    async def bench(ctx, block, master, writes):
        bus = block.bus
        for requests, answer, cycles in (((bus.aw, bus.w), bus.b, 4), ((bus.ar,), bus.r, 5)):
            for port in requests:
                ctx.set(port.valid, 1)
            ctx.set(answer.ready, 1)
            await ctx.tick()
            for port in requests:
                ctx.set(port.valid, 0)
            for cycle in range(1, 6):
                assert ctx.get(answer.valid) == (cycle == cycles), cycle
                await ctx.tick()

    simulate(bench)


def test_reads_and_writes_take_turns():
    async def bench(ctx, block, master, writes):
        bus = block.bus
        ctx.set(bus.aw.payload.addr, MAP.address("device"))
        ctx.set(bus.w.payload.strb, 0xFF)
        ctx.set(bus.ar.payload.addr, MAP.address("id"))
        for port in (bus.aw, bus.w, bus.ar):
            ctx.set(port.valid, 1)
        for port in (bus.b, bus.r):
            ctx.set(port.ready, 1)
        taken = []
        for _ in range(40):
            _, _, write, read = await ctx.tick().sample(bus.aw.ready, bus.ar.ready)
            taken += ["write"] * write + ["read"] * read
        assert taken[:6] == ["write", "read"] * 3

    simulate(bench)
