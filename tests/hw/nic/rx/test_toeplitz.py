# SPDX-License-Identifier: BSD-2-Clause
"""The Toeplitz engine gives the published hashes, and those of its definition, at every width and pace."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.rings import TransportLayer
from hw.nic.rx.toeplitz import MESSAGE_BYTES, Toeplitz
from tests.hw.nic.rx.flows import SUITE, SUITE_KEY, Flow, toeplitz

STEPS = [1, 2, 4, 8]


def run(dut, key, messages, rng=None):
    """Hashes of the messages, and the cycles in which they began and were done; with an ``rng``, begun at random."""
    hashes, started, done = [], [], []

    async def bench(ctx):
        ctx.set(dut.key, int.from_bytes(key, "little"))
        left = list(messages)
        for cycle in range(20 * len(messages) + 50):
            begins = bool(left and ctx.get(dut.ready) and (rng is None or rng.random() < 0.5))
            ctx.set(dut.start, begins)
            if begins:
                ctx.set(dut.message, int.from_bytes(left.pop(0), "little"))
                started.append(cycle)
            _, _, finished, value = await ctx.tick().sample(dut.done, dut.hash)
            if finished:
                hashes.append(value)
                done.append(cycle)
            if len(hashes) == len(messages):
                return

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return hashes, started, done


@pytest.mark.parametrize("steps", STEPS)
def test_the_verification_suite_matches(steps):
    messages, expected = [], []
    for destination, destination_port, source, source_port, by_addresses, by_ports in SUITE:
        flow = Flow.of(source, source_port, destination, destination_port, TransportLayer.TCP)
        addresses = flow.source + flow.destination
        for message, value in ((addresses, by_addresses), (addresses + flow.ports, by_ports)):
            assert toeplitz(SUITE_KEY, message) == value
            messages.append(message)
            expected.append(value)
    hashes, _, _ = run(Toeplitz(steps), SUITE_KEY, messages)
    assert hashes == expected


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("paced", [False, True])
def test_random_messages_match_the_definition_at_the_stated_pace_and_latency(steps, paced):
    print(f"seed {steps}")
    rng = random.Random(steps)
    key = rng.randbytes(40)
    messages = [rng.randbytes(rng.choice((8, 12, 32, 36))) for _ in range(30)]
    messages += [bytes(MESSAGE_BYTES), b"\xff" * MESSAGE_BYTES, b"\x80", bytes(35) + b"\x01"]
    hashes, started, done = run(Toeplitz(steps), key, messages, rng if paced else None)
    assert hashes == [toeplitz(key, message) for message in messages]
    assert [end - start for start, end in zip(started, done)] == [steps + 2] * len(messages)
    if not paced:
        assert started == [steps * number for number in range(len(messages))]


@pytest.mark.parametrize("steps", [1, 8])
def test_a_reset_in_the_middle_forgets_the_message(steps):
    dut, reset = Toeplitz(steps), Signal()

    async def bench(ctx):
        ctx.set(dut.key, (1 << 320) - 1)
        ctx.set(dut.message, 1)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert ctx.get(dut.ready)
        for _ in range(20):
            await ctx.tick()
            assert not ctx.get(dut.done)

    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="steps must be 1, 2, 4 or 8, not 3"):
        Toeplitz(3)
    with pytest.raises(TypeError, match="steps must be an integer, not True"):
        Toeplitz(True)
