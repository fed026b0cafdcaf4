# SPDX-License-Identifier: BSD-2-Clause
"""Every address is found to be what the description says, and nothing else."""

import pytest
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.config import preset
from hw.nic.register_decoder import RegisterDecoder
from hw.nic.register_set import in_table, is_counter, is_shadowed, port_registers, queue_registers

QUEUES = 2
MAP = register_map(QUEUES)


@pytest.mark.parametrize("changes", [{}, {"classify": True, "rss": True, "steering_rules": 64, "header_split": True}])
def test_every_word_is_found_two_cycles_later(changes):
    config = preset("10g", queues=QUEUES, **changes)
    decoder = RegisterDecoder(config)
    there = {register.offset: (name, register) for name, register in port_registers(config).items()}
    for queue in range(QUEUES):
        there |= {MAP.address(name, queue): (name, register) for name, register in queue_registers(config).items()}
    assert ("rx_header" in queue_registers(config)) == config.header_split

    async def bench(ctx):
        for address in range(0, MAP.queue_base + (QUEUES + 1) * MAP.queue_stride, 8):
            ctx.set(decoder.address, address)
            await ctx.tick().repeat(2)
            found = decoder.found
            assert ctx.get(found.mapped) == (address in there), hex(address)
            hits = [name for name in found.shape().members if name.startswith("at_") and ctx.get(found[name])]
            if address not in there:
                assert hits == []
                for kind in ("readable", "writable", "counter"):
                    assert not ctx.get(found[kind]), (kind, hex(address))
                continue
            name, register = there[address]
            assert ctx.get(found.readable) == register.readable, name
            assert ctx.get(found.writable) == register.writable, name
            assert ctx.get(found.counter) == is_counter(name), name
            assert ctx.get(found.in_table) == in_table(name), name
            assert ctx.get(found.shadowed) == is_shadowed(register), name
            assert ctx.get(decoder.mask) == register.mask, name
            assert hits == ([] if is_counter(name) or in_table(name) else [f"at_{name}"])
            for way in ("rx", "tx"):
                rings = {"rx": ("rx_fill", "rx_completion"), "tx": ("tx_ring", "tx_completion")}[way]
                is_ring = name.endswith(("_base", "_size")) and name.startswith(rings)
                assert ctx.get(found[f"{way}_ring"]) == (is_ring or (way, name) == ("rx", "rx_header")), name

    sim = Simulator(decoder)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
