# SPDX-License-Identifier: BSD-2-Clause
"""The whole NIC: frames both ways, byte-exact, and every way to stop it."""

import random
from collections import Counter

import pytest

from hw.abi.rings import CompletionError, QueueError, QueueState
from hw.bus.axi4 import Response
from hw.nic.register_set import port_registers, queue_registers
from tests.hw.nic.nic_host import NicHost, balance


def make_frame(rng, length, queue=0):
    """A frame of random bytes to the address that is steered to a queue."""
    return bytes([2, 0, 0, 0, 0, queue]) + rng.randbytes(length - 6)


async def settle(host, ctx, cycles=300):
    """Let everything offered reach its end."""
    await host.until(ctx, lambda: host.wire_empty, "the wire to be empty")
    await ctx.tick().repeat(cycles)


@pytest.mark.parametrize(("stall", "latency", "width"), [(0.0, 4, 64), (0.3, (1, 60), 64), (0.2, (5, 40), 512)])
def test_frames_arrive_byte_exact_on_their_queues(stall, latency, width):
    seed = 11
    print(f"seed {seed}")
    host = NicHost(seed=seed, stall=stall, latency=latency, data_width=width)
    rng = random.Random(seed)
    expected = ([], [])

    async def bench(ctx):
        await host.bring_up(ctx)
        for _ in range(14):
            queue = rng.randrange(2)
            frame = make_frame(rng, rng.choice((60, 61, 63, 64, 300, 1514, 2048, 2049, 4100)), queue)
            expected[queue].append(frame)
            host.play(frame, gap=1 + 2 * len(frame) // host.config.beat_bytes)
        for queue in range(2):
            frames = await host.receive(ctx, queue, len(expected[queue]))
            assert frames == expected[queue]
        await settle(host, ctx)
        counters = await host.counters(ctx)
        assert balance(counters, 2) == (14, 14)
        assert counters["rx.bytes"] == sum(map(len, (*expected[0], *expected[1])))
        for queue in range(2):
            assert counters[queue, "rx_packets"] == len(expected[queue])
            assert counters[queue, "rx_bytes"] == sum(map(len, expected[queue]))

    host.run(bench)


@pytest.mark.parametrize(
    ("stall", "wire_stall", "width", "ids"),
    [(0.0, 0.0, 64, 1), (0.3, 0.3, 64, 8), (0.2, 0.4, 512, 1), (0.0, 0.2, 512, 16)],
)
def test_frames_leave_byte_exact_and_in_order(stall, wire_stall, width, ids):
    seed = 12
    print(f"seed {seed}")
    host = NicHost(seed=seed, stall=stall, latency=(4, 40), wire_stall=wire_stall, data_width=width, read_ids=ids)
    rng = random.Random(seed)

    async def bench(ctx):
        await host.bring_up(ctx)
        frames = [[make_frame(rng, rng.choice((60, 65, 594, 1514)), queue) for _ in range(6)] for queue in range(2)]
        for queue in range(2):
            await host.transmit(ctx, queue, frames[queue], pieces=1 + 2 * queue)
        for queue in range(2):
            entries = await host.reclaimed(ctx, queue, 6)
            assert [entry.error for entry in entries] == [CompletionError.NONE.value] * 6
            assert entries[-1].index == host.queues[queue].sent
        await host.until(ctx, lambda: len(host.sent) == 12, "12 frames on the wire")
        for queue in range(2):
            assert [frame for frame in host.sent if frame[5] == queue] == frames[queue]
        await ctx.tick().repeat(10)
        counters = await host.counters(ctx)
        assert counters["tx.frames"] == 12
        assert [counters[queue, "tx_packets"] for queue in range(2)] == [6, 6]

    host.run(bench)


def test_interrupt_comes_after_its_completion_and_only_if_armed():
    host = NicHost(seed=1, latency=(30, 60))
    rng = random.Random(1)

    async def bench(ctx):
        await host.bring_up(ctx, completion=0)
        host.play(make_frame(rng, 60, 1))
        await host.receive(ctx, 1, 1)
        await ctx.tick().repeat(100)
        assert host.vectors == []
        await host.write(ctx, "arm", 1, rx_consumer=1)
        await ctx.tick().repeat(20)
        assert host.vectors == []
        host.play(make_frame(rng, 60, 0))
        host.play(make_frame(rng, 60, 1))
        await host.until(ctx, lambda: host.vectors, "the interrupt")
        assert host.vectors == [101]
        assert len(list(host.poll(1))) == 1
        await host.write(ctx, "arm", 1, rx_consumer=1)
        await host.until(ctx, lambda: len(host.vectors) == 2, "the interrupt of a completion that was there")
        await host.transmit(ctx, 0, [make_frame(rng, 60)])
        await host.write(ctx, "arm", 0, rx_consumer=1)
        await host.until(ctx, lambda: len(host.vectors) == 3, "the interrupt of a TX completion")
        assert host.vectors[2] == 100
        assert len(host.reclaim(0)) == 1
        counters = await host.counters(ctx)
        assert [counters[queue, "interrupts"] for queue in range(2)] == [1, 2]

    host.run(bench)


@pytest.mark.parametrize("seed", range(2))
def test_stopping_in_full_traffic_writes_nothing_afterwards(seed):
    print(f"seed {seed}")
    host = NicHost(seed=seed, stall=0.2, latency=(5, 50))
    rng = random.Random(seed)

    async def bench(ctx):
        await host.bring_up(ctx, buffers=60)
        for _ in range(24):
            host.play(make_frame(rng, rng.choice((60, 300, 1000)), rng.randrange(2)))
        await host.transmit(ctx, 0, [make_frame(rng, 200) for _ in range(12)])
        await host.transmit(ctx, 1, [make_frame(rng, 200, 1) for _ in range(12)])
        await ctx.tick().repeat(rng.randrange(200, 700))
        for direction in ("rx", "tx"):
            await host.write(ctx, f"{direction}_control", 0, enable=0)
            assert await host.stopped(ctx, direction, 0) == (QueueState.DISABLED, 0)
        written, read = len(host.writes), len(host.memory.reads)
        await settle(host, ctx)
        own = range(host.queues[0].base, host.queues[1].base)
        assert not [write for write in host.writes[written:] if write[1] in own]
        assert not [burst for burst in host.memory.reads[read:] if burst.address in own]
        await host.reclaimed(ctx, 1, 12)
        counters = await host.counters(ctx)
        received, accounted = balance(counters, 2)
        assert received == accounted == 24
        assert counters[0, "drop_queue_disabled"] > 0
        assert counters[1, "rx_packets"] + counters[1, "drop_no_buffer"] > 0
        host.sent.clear()
        await host.start(ctx, 0)
        frame = make_frame(rng, 100)
        host.play(frame)
        assert await host.receive(ctx, 0, 1) == [frame]
        await host.transmit(ctx, 0, [frame])
        await host.reclaimed(ctx, 0, 1)
        await host.until(ctx, lambda: host.sent, "the frame of the restarted queue")
        assert host.sent[-1] == frame

    host.run(bench)


@pytest.mark.parametrize("seed", range(2))
def test_function_reset_in_full_traffic_returns_to_power_on(seed):
    print(f"seed {seed}")
    host = NicHost(seed=seed, stall=0.2, latency=(5, 50), wire_stall=0.2)
    rng = random.Random(seed)

    async def bench(ctx):
        await host.bring_up(ctx, buffers=60)
        for _ in range(24):
            host.play(make_frame(rng, rng.choice((60, 300, 1000)), rng.randrange(2)))
        frames = [make_frame(rng, 200) for _ in range(12)]
        await host.transmit(ctx, 0, frames)
        await ctx.tick().repeat(rng.randrange(200, 600))
        await host.write(ctx, "control", rx_enable=1, tx_enable=1, reset=1)
        assert await host.registers.field(ctx, "status", "resetting") == 1
        assert await host.registers.write(ctx, "timeouts") is Response.SLVERR
        for _ in range(400):
            if not await host.registers.field(ctx, "status", "resetting"):
                break
        else:
            raise AssertionError("400 reads of STATUS did not see the end of the reset")
        assert host.memory.idle
        written, read, sent = len(host.writes), len(host.memory.reads), len(host.sent)
        assert host.sent == frames[:sent]
        await settle(host, ctx)
        assert (len(host.writes), len(host.memory.reads), len(host.sent)) == (written, read, sent)
        for space, queue in (
            (port_registers(host.config), None),
            (queue_registers(host.config), 0),
            (queue_registers(host.config), 1),
        ):
            for name, register in space.items():
                if register.readable and not register.hardware:
                    assert await host.registers.read(ctx, name, queue) == register.reset, (name, queue)
        counters = await host.counters(ctx)
        assert counters["rx.frames"] == counters["rx.drop_link_down"]
        assert not any(value for name, value in counters.items() if isinstance(name, tuple))
        await host.bring_up(ctx)
        frame = make_frame(rng, 1000, 1)
        host.play(frame)
        assert await host.receive(ctx, 1, 1) == [frame]
        await host.transmit(ctx, 1, [frame])
        await host.until(ctx, lambda: len(host.sent) > sent, "a frame sent after the reset")
        assert host.sent[sent:] == [frame]

    host.run(bench)


def test_reset_of_an_idle_nic_needs_no_rings():
    host = NicHost()

    async def bench(ctx):
        await host.write(ctx, "device", device_id=5)
        await host.write(ctx, "control", reset=1)
        await ctx.tick().repeat(40)
        assert await host.registers.field(ctx, "status", "resetting") == 0
        assert await host.registers.read(ctx, "device") == 0

    host.run(bench)


@pytest.mark.parametrize(("direction", "ring"), [("rx", 0), ("tx", 2)])
def test_ring_read_error_stops_that_queue_only(direction, ring):
    host = NicHost(seed=4, latency=(4, 20))
    rng = random.Random(4)

    async def bench(ctx):
        await host.bring_up(ctx, buffers=0)
        broken = host.queues[0].ring(ring)
        host.memory.fail(range(broken, broken + 0x1000))
        await host.write(ctx, "arm", 0)
        for queue in range(2):
            await host.post(ctx, queue, 8)
            await host.transmit(ctx, queue, [make_frame(rng, 100, queue)])
        state, error = await host.stopped(ctx, direction, 0)
        assert (state, error) == (QueueState.ERROR, QueueError.RING_READ.value)
        await host.until(ctx, lambda: 100 in host.vectors, "the interrupt that tells of the failure")
        other = "tx" if direction == "rx" else "rx"
        assert (await host.state(ctx, other, 0))[0] is QueueState.ENABLED
        frames = [make_frame(rng, 200, 1) for _ in range(3)]
        for frame in frames:
            host.play(frame)
            host.play(make_frame(rng, 200, 0))
        assert await host.receive(ctx, 1, 3) == frames
        await host.reclaimed(ctx, 1, 1)
        await settle(host, ctx)
        counters = await host.counters(ctx)
        assert counters[0, "drop_queue_disabled"] == (3 if direction == "rx" else 0)
        assert balance(counters, 2) == (6, 6)
        host.memory.heal()
        await host.write(ctx, f"{direction}_control", 0, enable=0)
        assert (await host.stopped(ctx, direction, 0))[0] is QueueState.DISABLED
        await host.start(ctx, 0, directions=(direction,))
        host.sent.clear()
        frame = make_frame(rng, 77)
        if direction == "rx":
            host.play(frame)
            assert await host.receive(ctx, 0, 1) == [frame]
        else:
            await host.transmit(ctx, 0, [frame])
            await host.until(ctx, lambda: host.sent == [frame], "the frame of the restarted queue")

    host.run(bench)


def test_frames_are_counted_where_they_are_dropped():
    host = NicHost(seed=5)
    rng = random.Random(5)

    async def bench(ctx):
        host.play(make_frame(rng, 60))
        await settle(host, ctx, 20)
        await host.bring_up(ctx, buffers=2, starvation=50)
        await host.write(ctx, "frame_limits", min_length=60, max_length=1514)
        host.play(make_frame(rng, 59))
        host.play(make_frame(rng, 1515))
        host.play(make_frame(rng, 100), damaged=True)
        for _ in range(4):
            host.play(make_frame(rng, 1000))
        await settle(host, ctx)
        await host.write(ctx, "steering", default_queue=7)
        host.play(make_frame(rng, 100))
        await settle(host, ctx)
        counters = await host.counters(ctx)
        for reason in ("link_down", "runt", "oversize", "bad_fcs"):
            assert counters[f"rx.drop_{reason}"] == 1, reason
        assert counters[0, "rx_packets"] == 2
        assert counters[0, "drop_no_buffer"] == 2
        assert counters[0, "drop_queue_disabled"] == 1
        assert balance(counters, 2) == (9, 9)

    host.run(bench)


NOTHING = {"classify": 0, "rss": 0, "steering_rules": 0, "header_split": 0, "tx_offload": 0, "segmentation": 0}


@pytest.mark.parametrize("built", [{"classify": 1}, {"tx_offload": 1, "segmentation": 1}])
def test_registers_tell_what_was_built(built):
    flags = {name: bool(value) for name, value in built.items()}
    host = NicHost(queues=1, data_width=128, rx_buffer_bytes=65536, max_frame=3000, **flags)

    async def bench(ctx):
        registers = host.registers
        assert await registers.field(ctx, "id", "magic") == int.from_bytes(b"PGWL", "little")
        sizes = {"queues": 1, "beat_bytes": 16, "rx_buffer_kib": 64, "tx_buffer_kib": 32, "max_descriptors": 5}
        register = registers.map.port["capabilities"]
        assert await registers.read(ctx, "capabilities") == register.pack(**sizes, **NOTHING | built)
        assert await registers.field(ctx, "frame_limits", "max_length") == 3000
        await host.write(ctx, "frame_limits", min_length=60, max_length=1514)
        assert await registers.field(ctx, "frame_limits", "max_length") == 1514
        assert await registers.read(ctx, "status") == 0
        ctx.set(host.nic.carrier, 1)
        assert await registers.field(ctx, "status", "carrier") == 1
        assert await registers.field(ctx, "status", "link_up") == 0
        await host.write(ctx, "control", rx_enable=1)
        assert await registers.field(ctx, "status", "link_up") == 1

    host.run(bench)


def test_trace_points_follow_a_frame_by_its_serial():
    host = NicHost(serial_width=32)
    rng = random.Random(6)
    seen = []

    async def bench(ctx):
        points = host.nic.trace
        ctx.set(host.nic.wire_rx.payload.serial, 77)
        await host.bring_up(ctx)
        host.play(make_frame(rng, 100))
        for _ in range(300):
            await ctx.tick()
            for name in ("rx_accepted", "rx_taken", "rx_completed", "rx_refused", "rx_dropped"):
                if ctx.get(getattr(points, name).strobe):
                    seen.append((name, ctx.get(getattr(points, name).serial)))

    host.run(bench)
    assert seen == [("rx_accepted", 77), ("rx_taken", 77), ("rx_completed", 77)]


def test_probes_show_every_handshake_of_a_frame():
    host = NicHost(probes=True)
    rng = random.Random(7)
    moved = Counter()

    async def bench(ctx):
        probes = host.nic.probes
        await host.bring_up(ctx)
        host.play(make_frame(rng, 100))
        for _ in range(300):
            valid, ready = ctx.get(probes.valid), ctx.get(probes.ready)
            moved.update(name for place, name in enumerate(probes.signature.names) if valid & ready & 1 << place)
            await ctx.tick()

    host.run(bench)
    steps = ("frames", "parsed", "steered", "segments", "writes", "written", "completions", "lines", "lines_done")
    assert {name: moved[f"rx_{name}"] for name in steps} == dict.fromkeys(steps, 1)
    assert moved["rx_data"] == -(-100 // host.config.beat_bytes)
    assert not [name for name in moved if name.startswith("tx")]
