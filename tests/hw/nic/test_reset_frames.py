# SPDX-License-Identifier: BSD-2-Clause
"""Function reset of a whole NIC with offloads: whatever was gathered is sent, and sent whole.

No register is read while the reset is under way: an access would keep the NIC from being quiet.
"""

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from amaranth.sim import Simulator
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from tests.hw.nic.nic_host import NicHost
from tests.hw.nic.tx.bench import context, data
from tests.hw.nic.tx.packets import Placer, segmentation

_TX_RING = 2


class ResetBench:
    """A host whose reset comes at a chosen time; ``gathered`` counts pieces read."""

    def __init__(self, **parameters):
        self.host = NicHost(tx_offload=True, segmentation=True, serial_width=16, queues=1, **parameters)
        self.gathered = 0

    def run(self, scenario):
        host = self.host
        simulator = Simulator(host.nic)
        simulator.add_clock(1e-6)
        host.memory.attach(simulator, host.nic.axi)
        for testbench in (host._play, host._record, host._interrupt, self._watch):
            simulator.add_testbench(testbench, background=True)
        simulator.add_testbench(scenario)
        simulator.run()

    async def _watch(self, ctx):
        async for _, _, strobe in ctx.tick().sample(self.host.nic.trace.tx_gathered.strobe):
            self.gathered += strobe

    async def sent(self, ctx, entries, delay, quiet):
        """Post descriptors, reset the NIC ``delay`` cycles later, wait; the number of pieces gathered, and of frames
        sent."""
        host, queue = self.host, self.host.queues[0]
        for index, entry in enumerate(entries):
            host._store(queue.ring(_TX_RING, index), entry)
        queue.sent = len(entries)
        gathered, sent = self.gathered, len(host.sent)
        await host.ring_tx(ctx, 0)
        await ctx.tick().repeat(delay)
        await host.write(ctx, "control", rx_enable=1, tx_enable=1, reset=1)
        await ctx.tick().repeat(quiet)
        assert not await host.registers.field(ctx, "status", "resetting")
        return self.gathered - gathered, len(host.sent) - sent


@pytest.mark.parametrize(("width", "length"), [(64, 96), (512, 64)])
def test_a_frame_that_was_read_is_sent_though_nobody_waits_for_it(width, length):
    bench = ResetBench(data_width=width, max_burst_bytes=512, latency=80)
    seen = set()

    async def scenario(ctx):
        for delay in range(140, 220, 20):
            await bench.host.bring_up(ctx, buffers=0)
            entries = [
                context(vlan=7),
                data(bench.host.queues[0].base + 0x20000, length, ask=("insert_vlan",)),
            ]
            gathered, sent = await bench.sent(ctx, entries, delay, quiet=400)
            assert sent == (gathered > 0)
            seen.add(gathered > 0)

    bench.run(scenario)
    assert seen


def test_a_frame_behind_segments_that_are_discarded_is_sent():
    bench = ResetBench(data_width=64, max_burst_bytes=512)
    packet = Ether(bytes(Ether(dst="02:00:00:00:00:01") / IP(flags="DF") / TCP() / Raw(bytes(6000))))
    good = segmentation(random.Random(0), packet, 3000)
    not_tcp = bytearray(good.memory)
    not_tcp[23] = 17
    refused = replace(good, memory=bytes(not_tcp))

    async def scenario(ctx):
        pieces = set()
        for delay in (1500, 950, 1050):
            await bench.host.bring_up(ctx, buffers=0)
            base = bench.host.queues[0].base
            placer = Placer(SimpleNamespace(memory=bench.host.memory.data), random.Random(0))
            placer.next = base + 0x20000
            entries = [*placer.put(refused, first=100), data(base + 0x30000, 60)]
            gathered, sent = await bench.sent(ctx, entries, delay, quiet=1200)
            assert sent == 1
            pieces.add(gathered)
        assert len(pieces) == 1

    bench.run(scenario)
