# SPDX-License-Identifier: BSD-2-Clause
"""PacketBuffer: words and tags come back in order, through any stall."""

import random

import pytest
from amaranth.sim import Simulator

from hw.nic.packet_buffer import PacketBuffer


@pytest.mark.parametrize("ready_chance", [1.0, 0.5])
@pytest.mark.parametrize("request_chance", [1.0, 0.5])
def test_every_request_is_answered_in_order_with_its_word_and_tag(ready_chance, request_chance):
    rng = random.Random(7)
    buffer = PacketBuffer(64, 16, 8)
    words = [rng.getrandbits(64) for _ in range(16)]
    expected, received, cycles = [], [], []

    async def bench(ctx):
        ctx.set(buffer.write_enable, 1)
        for address, word in enumerate(words):
            ctx.set(buffer.write_address, address)
            ctx.set(buffer.write_data, word)
            await ctx.tick()
        ctx.set(buffer.write_enable, 0)
        offered = None
        for cycle in range(2000):
            if offered is None and len(expected) < 100 and rng.random() < request_chance:
                offered = {"address": rng.randrange(16), "tag": rng.randrange(256)}
                ctx.set(buffer.request.payload, offered)
            ctx.set(buffer.request.valid, offered is not None)
            ctx.set(buffer.response.ready, rng.random() < ready_chance)
            _, _, ready, taken, payload = await ctx.tick().sample(
                buffer.request.ready, buffer.response.valid & buffer.response.ready, buffer.response.payload
            )
            if offered is not None and ready:
                expected.append((words[offered["address"]], offered["tag"]))
                offered = None
            if taken:
                received.append((payload.data, payload.tag))
                cycles.append(cycle)
            if len(received) == 100:
                return
        raise AssertionError(f"Waited 2000 cycles for 100 responses: {len(received)} came")

    simulator = Simulator(buffer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert received == expected
    if ready_chance == request_chance == 1.0:
        assert cycles == list(range(3, 103))


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="one of 64, 128, 256, 512, not 96"):
        PacketBuffer(96, 16, 8)
    with pytest.raises(ValueError, match="power of two from 2 up, not 12"):
        PacketBuffer(64, 12, 8)
    with pytest.raises(TypeError, match="must be an integer, not '16'"):
        PacketBuffer(64, "16", 8)
