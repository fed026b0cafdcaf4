# SPDX-License-Identifier: BSD-2-Clause
"""What was written to a register is there, of that register alone, until a reset."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.register_set import is_shadowed, register_pages
from hw.nic.register_shadow import RegisterShadow

BUILT = {"classify": True, "rss": True, "steering_rules": 64, "header_split": True}


def addresses_of(config):
    """Addresses of all registers that are kept, of every page."""
    registers = register_map(config.queues, pools=config.pools)
    pages = {"port": [{}], "queue": [{"queue": q} for q in range(config.queues)]}
    pages["pool"] = [{"pool": p} for p in range(config.pools)]
    return [
        registers.address(name, **page)
        for kind, described in register_pages(config).items()
        for name, register in described.items()
        for page in pages[kind]
        if is_shadowed(kind, register)
    ]


@pytest.mark.parametrize(("queues", "pools"), [(3, 0), (3, 1), (1, 4), (16, 16)])
def test_registers_are_kept_apart_until_a_reset(queues, pools):
    seed = 3
    print(f"seed {seed}")
    rng = random.Random(seed)
    config = preset("10g", queues=queues, pools=pools, **BUILT)
    shadow, reset = RegisterShadow(config), Signal()
    addresses = addresses_of(config)
    words = {address: rng.getrandbits(64) for address in addresses}

    async def bench(ctx):
        async def read(address):
            ctx.set(shadow.address, address)
            await ctx.tick().repeat(3 if pools else 2)
            return ctx.get(shadow.value) if ctx.get(shadow.known) else None

        assert [await read(address) for address in words] == [None] * len(words)
        written = {}
        for address in rng.sample(addresses, len(addresses)):
            ctx.set(shadow.address, address)
            await ctx.tick().repeat(2 if pools else 1)
            ctx.set(shadow.write, 1)
            ctx.set(shadow.data, words[address])
            await ctx.tick()
            ctx.set(shadow.write, 0)
            written[address] = words[address]
            other = rng.choice(addresses)
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
