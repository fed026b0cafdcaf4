# SPDX-License-Identifier: BSD-2-Clause
"""What was written to a register is there, of that register alone, until a reset."""

import random

from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.register_set import is_shadowed
from hw.nic.register_shadow import RegisterShadow

QUEUES = 3
MAP = register_map(QUEUES)
ADDRESSES = [MAP.address(name) for name, register in MAP.port.items() if is_shadowed(register)]
ADDRESSES += [
    MAP.address(name, queue) for name, register in MAP.queue.items() if is_shadowed(register) for queue in range(QUEUES)
]


def test_registers_are_kept_apart_until_a_reset():
    seed = 3
    print(f"seed {seed}")
    rng = random.Random(seed)
    shadow, reset = RegisterShadow(preset("10g", queues=QUEUES)), Signal()
    words = {address: rng.getrandbits(64) for address in ADDRESSES}

    async def bench(ctx):
        async def read(address):
            ctx.set(shadow.address, address)
            await ctx.tick().repeat(2)
            return ctx.get(shadow.value) if ctx.get(shadow.known) else None

        assert [await read(address) for address in words] == [None] * len(words)
        written = {}
        for address in rng.sample(ADDRESSES, len(ADDRESSES)):
            ctx.set(shadow.address, address)
            await ctx.tick()
            ctx.set(shadow.write, 1)
            ctx.set(shadow.data, words[address])
            await ctx.tick()
            ctx.set(shadow.write, 0)
            written[address] = words[address]
            other = rng.choice(ADDRESSES)
            assert await read(other) == written.get(other), hex(other)
        assert [await read(address) for address in words] == list(words.values())
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert [await read(address) for address in words] == [None] * len(words)

    sim = Simulator(ResetInserter(reset)(shadow))
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
