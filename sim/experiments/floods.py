# SPDX-License-Identifier: BSD-2-Clause
"""What experiments that let a driver run have in common: traffic of a length in time, and a NIC with pools."""

from dataclasses import replace
from fractions import Fraction
from itertools import islice

from hw.abi.pools import MAX_POOL_BUFFERS
from sim.config import MachineConfig
from sim.traffic.pacing import LineRate
from sim.traffic.sizes import parse_sizes
from sim.traffic.source import Traffic

SAMPLED_SIZES = 2520  #: frames that a mean size is taken from: whole rounds of the named mixes


def flood(
    machine: MachineConfig,
    sizes: str,
    microseconds: int,
    *,
    frames: int = 0,
    flows: int = 1,
    queues: int = 1,
    load: str = "1",
    seed: int = 1,
) -> Traffic:
    """Frames of those sizes for so long, or so many, at a share of the machine's line rate."""
    rate = machine.mac_mbps * 1_000_000
    if not frames:
        line = LineRate(rate, machine.nic.clock_khz, load)
        lengths = list(islice(parse_sizes(sizes).lengths(seed), SAMPLED_SIZES))
        cycles = sum(map(line.frame_cycles, lengths), Fraction(0)) / len(lengths) / line.load
        frames = max(1, int(microseconds * machine.nic.clock_khz / 1000 / cycles))
    return Traffic(sizes, frames, flows, queues, rate, load, seed)


def with_pools(machine: MachineConfig, ring: int) -> MachineConfig:
    """The machine with a NIC that recycles: for each queue pair a pool of as many buffers as both rings have
    entries."""
    pools, buffers = max(machine.nic.pools, machine.nic.queues), min(2 * ring, MAX_POOL_BUFFERS)
    return replace(machine, nic=replace(machine.nic, pools=pools, pool_buffers=max(machine.nic.pool_buffers, buffers)))
