# SPDX-License-Identifier: BSD-2-Clause
"""The host link's registers, interrupts and messages, and their order with data."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from hw.bus.axi4 import Response
from sim.host.link import HostLink
from sim.host.link_config import LinkConfig, link_preset
from tests.sim.host.link_bench import LinkBench, Registers, receive, send

TIMEOUT = 3000


def with_registers(bench: LinkBench, latency: int = 3) -> Registers:
    registers = Registers(bench.dut.device_registers, latency)
    bench.processes.append(registers.process)
    return registers


async def write_register(ctx: Any, port: Any, address: int, value: int) -> None:
    """Offer a register write, address and data together."""
    for channel, fields in ((port.aw, {"addr": address}), (port.w, {"data": value, "strb": 0xFF})):
        for name, content in fields.items():
            ctx.set(channel.payload[name], content)
        ctx.set(channel.valid, 1)
    waiting = {"aw": port.aw, "w": port.w}
    for _ in range(TIMEOUT):
        _, _, *taken = await ctx.tick().sample(port.aw.ready, port.w.ready)
        for name, ready in zip(("aw", "w"), taken, strict=True):
            if ready and name in waiting:
                ctx.set(waiting.pop(name).valid, 0)
        if not waiting:
            return
    raise AssertionError(f"register write to {address:#x} was not taken within {TIMEOUT} cycles")


@pytest.mark.parametrize("preset", ["gen3-x8", "on-chip"])
def test_register_accesses(preset: str) -> None:
    """Writes are pipelined, reads see the writes before them, and refusals come back in order."""
    bench = LinkBench(preset)
    registers = with_registers(bench)
    port = bench.dut.host_registers
    answers: list[Response] = []
    values: list[int] = []

    async def cpu(ctx: Any) -> None:
        for n in range(30):
            await write_register(ctx, port, 0x900 if n in (3, 17) else 8 * n, 100 + n)
        await send(ctx, port.ar, "register read", addr=8 * 29)

    async def write_answers(ctx: Any) -> None:
        for _ in range(30):
            _, payload = await receive(ctx, port.b, "B of a register write")
            answers.append(payload.resp)

    async def read_answers(ctx: Any) -> None:
        _, payload = await receive(ctx, port.r, "R of a register read")
        values.append(payload.data)

    bench.run(cpu, write_answers, read_answers)
    assert values == [129]
    assert [n for n, answer in enumerate(answers) if answer is Response.SLVERR] == [3, 17]
    writes = [(address, data) for _, kind, address, data in registers.log if kind == "write"]
    assert writes == [(0x900 if n in (3, 17) else 8 * n, 100 + n) for n in range(30)]


def test_latency_of_a_register_read() -> None:
    bench = LinkBench()
    registers = with_registers(bench, latency=5)
    port = bench.dut.host_registers
    times = []

    async def cpu(ctx: Any) -> None:
        await send(ctx, port.ar, "register read", addr=0x10)
        waited, _ = await receive(ctx, port.r, "R of a register read")
        times.append(waited + 1)

    bench.run(cpu)
    there = bench.arrival(0, 24)
    assert registers.log[0][0] == there
    # The device takes a cycle to see the request beside its latency.
    assert times == [bench.arrival(there + 5 + 1, 8 + 20)]


def test_posted_register_writes_do_not_wait_for_answers() -> None:
    """A round trip is far longer than the cycles in which the writes arrive."""
    bench = LinkBench()
    registers = with_registers(bench, latency=50)
    port = bench.dut.host_registers

    async def cpu(ctx: Any) -> None:
        for n in range(32):
            await write_register(ctx, port, 8 * n, n)

    async def answers(ctx: Any) -> None:
        for _ in range(32):
            await receive(ctx, port.b, "B of a register write")

    bench.run(cpu, answers)
    cycles = [cycle for cycle, *_ in registers.log]
    assert cycles[-1] - cycles[0] == 31


def test_a_refusal_travels_as_a_message() -> None:
    """At a byte a cycle it comes 24 cycles later than the answer to an accepted write, which takes no bandwidth."""
    times = {}
    for address in (0x10, 0x900):
        bench = LinkBench(rate_mbps=1250)
        with_registers(bench)
        port = bench.dut.host_registers

        async def cpu(ctx: Any, port: Any = port, address: int = address) -> None:
            await write_register(ctx, port, address, 1)
            times[address], _ = await receive(ctx, port.b, "B of a register write")

        bench.run(cpu)
    assert times[0x900] - times[0x10] == 24


def upstream_followers(bench: LinkBench) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """How to send, and to receive, each kind of packet that must not overtake writes."""
    dut = bench.dut

    async def interrupt(ctx: Any) -> None:
        await send(ctx, dut.device_interrupt, "interrupt", payload=5)

    async def message(ctx: Any) -> None:
        await send(ctx, dut.device_answer, "message", payload=5)

    async def read_answer(ctx: Any) -> None:
        await send(ctx, dut.device_registers.r, "R", data=1)

    async def write_answer(ctx: Any) -> None:
        await send(ctx, dut.device_registers.b, "B")

    return {
        "interrupt": (interrupt, lambda ctx: receive(ctx, dut.host_interrupt, "interrupt")),
        "message": (message, lambda ctx: receive(ctx, dut.host_answer, "message")),
        "read answer": (read_answer, lambda ctx: receive(ctx, dut.host_registers.r, "R")),
        "write answer": (write_answer, lambda ctx: receive(ctx, dut.host_registers.b, "B")),
    }


@pytest.mark.parametrize("kind", ["interrupt", "message", "read answer", "write answer"])
def test_nothing_overtakes_a_write(kind: str) -> None:
    """Sent in the cycle of a write's last beat, it comes after memory acknowledged that write, however late."""
    for late in (1, 100):
        bench = LinkBench(memory={"latency": late})
        follow, take = upstream_followers(bench)[kind]
        write = bench.device.write(0x100, bytes(32))
        seen = []

        async def device(ctx: Any, bench: LinkBench = bench, follow: Any = follow) -> None:
            await ctx.tick().repeat(4)  # AW in cycle 0, its beats in 1 to 4
            await follow(ctx)

        async def host(ctx: Any, bench: LinkBench = bench, take: Any = take, seen: list = seen) -> None:
            waited, _ = await take(ctx)
            seen.append((waited, len(bench.memory.writes), bytes(bench.memory.data[0x100:0x120])))

        bench.memory.data[0x100:0x120] = b"x" * 32
        bench.run(device, host)
        assert write.moved[-1] == 4
        ((waited, writes, data),) = seen
        assert (writes, data) == (1, bytes(32))
        # AW, then the beats, then memory's latency, and the answer's own cycle.
        assert waited >= bench.arrival(4, 32 + 24) + 4 + late


def test_an_interrupt_does_not_hold_up_later_writes() -> None:
    bench = LinkBench(memory={"latency": 100})
    bench.device.write(0, bytes(8))
    bench.device.write(64, bytes(8), earliest=10)

    async def device(ctx: Any) -> None:
        await ctx.tick().repeat(5)
        await send(ctx, bench.dut.device_interrupt, "interrupt", payload=1)

    async def host(ctx: Any) -> None:
        await receive(ctx, bench.dut.host_interrupt, "interrupt")

    bench.run(device, host)
    first, second = bench.memory.writes
    assert second.cycle - first.cycle < 20


def test_read_data_does_not_overtake_a_register_write() -> None:
    """A doorbell that left before the data reaches the device first."""
    bench = LinkBench(memory={"latency": 30})
    registers = with_registers(bench, latency=80)
    read = bench.device.read(0x40, 1)
    port = bench.dut.host_registers

    async def cpu(ctx: Any) -> None:
        await ctx.tick().repeat(bench.arrival(0, 24) + 25)
        await write_register(ctx, port, 8, 1)
        await receive(ctx, port.b, "B of a register write")

    bench.run(cpu)
    ((cycle, *_),) = registers.log
    assert read.answered > cycle + 80


def test_messages() -> None:
    """In order, and behind register writes."""
    bench = LinkBench()
    registers = with_registers(bench, latency=60)
    port = bench.dut.host_registers
    seen = []

    async def cpu(ctx: Any) -> None:
        await write_register(ctx, port, 8, 1)
        for n in range(10):
            await send(ctx, bench.dut.host_message, "message", payload=1 << 63 | n)
        await receive(ctx, port.b, "B of a register write")

    async def device(ctx: Any) -> None:
        cycle = 0
        for _ in range(10):
            waited, payload = await receive(ctx, bench.dut.device_message, "message")
            cycle += waited + 1
            seen.append((cycle, payload))

    bench.run(cpu, device)
    assert [payload for _, payload in seen] == [1 << 63 | n for n in range(10)]
    assert seen[0][0] > registers.log[0][0] + 60


def test_random_traffic_of_all_kinds() -> None:
    """Everything at once with stalls: all arrives, in order within its kind."""
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = LinkBench(seed=seed, stall=0.3, latency_ns=60, memory={"latency": (1, 30)})
    registers = with_registers(bench)
    port = bench.dut.host_registers
    got: dict[str, list[int]] = {"interrupt": [], "message": [], "read": []}
    for n in range(30):
        bench.device.write(64 * n, rng.randbytes(rng.randint(1, 64)), id=rng.randrange(4))
        bench.device.read(0x8000 + 64 * n, rng.randint(1, 8), id=rng.randrange(4))

    def source(stream: Any, what: str) -> Any:
        async def bench_source(ctx: Any) -> None:
            for n in range(40):
                await ctx.tick().repeat(rng.randint(1, 4))
                await send(ctx, stream, what, payload=n)

        return bench_source

    def sink(stream: Any, what: str) -> Any:
        async def bench_sink(ctx: Any) -> None:
            for _ in range(40):
                await ctx.tick().repeat(rng.randint(1, 6))
                _, payload = await receive(ctx, stream, what)
                got[what].append(payload.data if what == "read" else payload)

        return bench_sink

    async def cpu(ctx: Any) -> None:
        for n in range(40):
            await write_register(ctx, port, 8, n)
            await send(ctx, port.ar, "register read", addr=8)

    async def answers(ctx: Any) -> None:
        for _ in range(40):
            await receive(ctx, port.b, "B of a register write")

    dut = bench.dut
    bench.run(
        source(dut.device_interrupt, "interrupt"),
        sink(dut.host_interrupt, "interrupt"),
        source(dut.host_message, "message"),
        sink(dut.device_message, "message"),
        cpu,
        answers,
        sink(port.r, "read"),
    )
    assert got["interrupt"] == got["message"] == list(range(40))
    # A read sees the writes before it; writes behind it may overtake it.
    assert all(value >= n for n, value in enumerate(got["read"]))
    assert got["read"] == sorted(got["read"])
    assert len(registers.log) == 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latency_ns": 0}, "latency_ns must be in 1..100000, not 0"),
        ({"rate_mbps": 0}, "rate_mbps must be in 100..2000000, not 0"),
        ({"max_payload": 100}, "max_payload must be in 128..4096, not 100"),
        ({"max_read_request": 384}, "max_read_request must be a power of two in 128..4096, not 384"),
        ({"read_completion_boundary": 32}, "read_completion_boundary must be in 64..128, not 32"),
        ({"read_tags": 4}, "read_tags must be in 8..1024, not 4"),
        ({"posted_credits": 512}, "posted_credits must be in 4096..1048576, not 512"),
        ({"speed": 1}, "LinkConfig has no parameter 'speed'; it has wires, latency_ns"),
    ],
)
def test_config_is_validated(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        link_preset("gen3-x8", **change)


def test_parameters_are_validated() -> None:
    with pytest.raises(ValueError, match="Link must be one of gen3-x8, gen3-x16, gen4-x16, on-chip, not 'gen5-x1'"):
        link_preset("gen5-x1")
    with pytest.raises(TypeError, match="read_tags must be an integer, not 64.0"):
        LinkConfig(read_tags=64.0)
    with pytest.raises(TypeError, match="wires must be a bool, not 1"):
        LinkConfig(wires=1)
    with pytest.raises(TypeError, match="latency_ns must be a number, not '1'"):
        LinkConfig(latency_ns="1")
    with pytest.raises(TypeError, match="config must be a LinkConfig, not 'gen3-x8'"):
        HostLink("gen3-x8", 64, 156_250)
