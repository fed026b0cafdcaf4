# SPDX-License-Identifier: BSD-2-Clause
"""The RX path with everything that says whose a frame is: parsed, hashed and looked up at the pace of the wire."""

import random

import pytest

from hw.abi.rings import TransportLayer
from hw.abi.steering import RSS_TABLE_ENTRIES, rule_message, rule_places
from hw.config import preset
from tests.hw.nic.rx.bench import RxBench
from tests.hw.nic.rx.flows import SUITE_KEY, Flow
from tests.hw.nic.test_steering import packet


@pytest.mark.parametrize(("width", "budget"), [(64, 10.5), (512, 1.68)])
def test_smallest_packets_are_steered_at_the_pace_of_the_wire(width, budget):
    count, queues = 120, 4
    built = {"classify": True, "rss": True, "steering_rules": 64}
    config = preset("10g", data_width=width, queues=queues, fetch_depth=256, outstanding_writes=256, **built)
    bench, rng = RxBench(config), random.Random(4)
    flows = [Flow.of(f"10.0.0.{number + 1}", 1, "10.1.0.1", 2, TransportLayer.UDP) for number in range(count)]
    frames = [packet(flow) for flow in flows]
    assert {len(frame) for frame in frames} == {60}
    ruled = flows[7]
    table = [rng.randrange(1, queues) for _ in range(RSS_TABLE_ENTRIES)]
    expected = [0 if flow is ruled else table[flow.hash(SUITE_KEY, ("udp_ipv4",)) % 128] for flow in flows]
    buffers = [
        {1000 * queue + i: (0x10_0000 * (queue + 1) + 0x1000 * i, 2048) for i in range(count)}
        for queue in range(queues)
    ]

    async def scenario(ctx):
        path = bench.path
        ctx.set(path.rss.key, int.from_bytes(SUITE_KEY, "little"))
        ctx.set(path.rss.types.udp_ipv4, 1)
        for row in range(16):
            ctx.set(path.rss.table.row, row)
            ctx.set(path.rss.table.data, int.from_bytes(table[8 * row : 8 * row + 8], "little"))
            ctx.set(path.rss.table.write, 1)
            await ctx.tick()
        ctx.set(path.rss.table.write, 0)
        for queue in range(queues):
            await bench.post(ctx, [(at, size, number) for number, (at, size) in buffers[queue].items()], queue)
        assert not ctx.get(path.rules.busy)
        for name, value in (ruled.tuple | ruled.packet_type | {"queue": 0}).items():
            ctx.set(getattr(path.rules, name), value)
        ctx.set(path.rules.index, rule_places(rule_message(**ruled.tuple), 64)[3])
        ctx.set(path.rules.insert, 1)
        await ctx.tick()
        ctx.set(path.rules.insert, 0)
        sent, beats = 0.0, -(-60 // config.beat_bytes)
        for frame in frames:
            idle = int(sent + budget) - int(sent) - beats
            sent += budget
            await bench.send(ctx, frame, idle=idle)
        await bench.settle(ctx, count)

    bench.run(scenario)
    for queue in range(queues):
        wanted = [frame for frame, chosen in zip(frames, expected) if chosen == queue]
        assert bench.received(buffers[queue], queue) == wanted
    steady = bench.completed_at[-1] - bench.completed_at[9]
    assert steady <= budget * (count - 10) + 4
