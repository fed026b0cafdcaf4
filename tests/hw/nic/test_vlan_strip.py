# SPDX-License-Identifier: BSD-2-Clause
"""The whole NIC takes tags out of frames, as register RX_OFFLOAD says."""

import random

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from hw.bus.axi4 import Response
from tests.hw.nic.nic_host import RX_COMPLETION, NicHost
from tests.hw.nic.rx.reference import ones_complement_sum, strip

STRIPPED, VALID = (RX_COMPLETION.mask("flags", name) for name in ("vlan_stripped", "vlan_valid"))


def packets(rng):
    """TCP packets without tag, with C-tags of number and priority, with two, and with an S-tag around."""
    tags = (), (Dot1Q(vlan=5),), (Dot1Q(vlan=0, prio=6),), (Dot1Q(vlan=9), Dot1Q(vlan=8)), (Dot1AD(vlan=7), Dot1Q())
    for pile in tags:
        packet = Ether(dst="02:00:00:00:00:00")
        for tag in pile:
            packet /= tag.copy()
        yield bytes(packet / IP(src="10.0.0.1", dst="10.0.0.2") / TCP() / rng.randbytes(rng.randrange(6, 90)))


async def received(host, ctx, count):
    frames = []
    for _ in range(5000):
        frames += host.poll(0)
        if len(frames) == count:
            return frames
        await ctx.tick()
    raise AssertionError(f"waited 5000 cycles for {count} frames, got {len(frames)}")


@pytest.mark.parametrize("width", [64, 256, 512])
def test_tags_are_in_the_frame_or_in_its_completion_as_the_register_says(width):
    host, rng = NicHost(seed=width, data_width=width, classify=True), random.Random(width)
    frames = list(packets(rng))

    async def bench(ctx):
        await host.bring_up(ctx)
        assert await host.registers.field(ctx, "rx_offload", "vlan_strip") == 0
        for on in (0, 1, 0):
            await host.write(ctx, "rx_offload", vlan_strip=on)
            assert await host.registers.field(ctx, "rx_offload", "vlan_strip") == on
            for frame in frames:
                host.play(frame)
            for (data, entry), frame in zip(await received(host, ctx, len(frames)), frames, strict=True):
                left, tag = strip(frame) if on else (frame, None)
                assert (data, entry.length) == (left, len(left))
                assert bool(entry.flags & STRIPPED) == (tag is not None)
                assert bool(entry.flags & VALID) == (frame[12:14] != b"\x08\0")
                assert not entry.flags & VALID or entry.vlan == int.from_bytes(frame[14:16])
                assert entry.checksum == ones_complement_sum(left[14:])
                assert entry.header_length == len(left) - len(Ether(left)[TCP].payload)
        counters = await host.counters(ctx)
        on_wire = 3 * sum(map(len, frames))
        assert (counters["rx.bytes"], counters[0, "rx_bytes"]) == (on_wire, on_wire)
        await host.write(ctx, "rx_offload", vlan_strip=1)
        await host.write(ctx, "control", reset=1)
        await ctx.tick().repeat(200)
        assert await host.registers.field(ctx, "rx_offload", "vlan_strip") == 0

    host.run(bench)


def test_without_a_classifier_there_is_no_such_register():
    host = NicHost()

    async def bench(ctx):
        assert await host.registers.write(ctx, "rx_offload", vlan_strip=1) is Response.DECERR

    host.run(bench)
