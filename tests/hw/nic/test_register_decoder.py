# SPDX-License-Identifier: BSD-2-Clause
"""Every address is found to be what the description says, and nothing else."""

import pytest
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.register_decoder import RegisterDecoder
from hw.nic.register_set import in_table, is_counter, is_shadowed, register_pages

QUEUES, POOLS = 2, 2
MAP = register_map(QUEUES, pools=POOLS)
OFFLOADS = {"classify": True, "rss": True, "steering_rules": 64, "header_split": True}


@pytest.mark.parametrize("changes", [{}, OFFLOADS, {"pools": POOLS}])
def test_every_word_is_found_two_cycles_later(changes):
    config = preset("10g", queues=QUEUES, **changes)
    decoder = RegisterDecoder(config)
    numbers = {
        "port": [{}],
        "queue": [{"queue": q} for q in range(QUEUES)],
        "pool": [{"pool": p} for p in range(POOLS)],
    }
    there = {
        MAP.address(name, **number): (kind, name, register)
        for kind, registers in register_pages(config).items()
        for name, register in registers.items()
        for number in numbers[kind]
    }
    for name, built in (("rx_header", config.header_split), ("rx_pool", config.pools), ("tx_pools", config.pools)):
        assert (MAP.address(name, 0) in there) == bool(built)

    async def bench(ctx):
        for address in range(0, 1 << config.mmio_addr_width, 8):
            ctx.set(decoder.address, address)
            await ctx.tick().repeat(2)
            found = decoder.found
            assert ctx.get(found.mapped) == (address in there), hex(address)
            singles = [name for name in found.shape().members if name.startswith(("at_", "pool_"))]
            hits = [name for name in singles if ctx.get(found[name])]
            if address not in there:
                assert hits == []
                for kind in ("readable", "writable", "counter"):
                    assert not ctx.get(found[kind]), (kind, hex(address))
                continue
            kind, name, register = there[address]
            assert ctx.get(found.readable) == register.readable, name
            assert ctx.get(found.writable) == register.writable, name
            assert ctx.get(found.counter) == is_counter(name), name
            assert ctx.get(found.in_table) == in_table(name), name
            assert ctx.get(found.shadowed) == is_shadowed(kind, register), name
            assert ctx.get(decoder.mask) == register.mask, name
            single = f"pool_{name}" if kind == "pool" else f"at_{name}"
            assert hits == ([] if is_counter(name) or in_table(name) else [single])
            for way in ("rx", "tx"):
                rings = {"rx": ("rx_fill", "rx_completion"), "tx": ("tx_ring", "tx_completion")}[way]
                is_ring = name.endswith(("_base", "_size")) and name.startswith(rings)
                like_ring = {"rx": ("rx_header", "rx_pool"), "tx": ("tx_pools",)}[way]
                assert ctx.get(found[f"{way}_ring"]) == (is_ring or name in like_ring), name

    sim = Simulator(decoder)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
