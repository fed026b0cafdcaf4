# SPDX-License-Identifier: BSD-2-Clause
"""RxAligner: what lies anywhere in a row of words comes out from lane 0, one beat a cycle."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.rx.aligner import RxAligner


def requests(rng: random.Random, size: int, transfers: list[bytes]) -> list[dict[str, Any]]:
    """Words with tags for transfers that lie one behind the other, as the contract of a beat's tag says."""
    content, place, fetched, found = b"".join(transfers), 0, 0, []
    for transfer in transfers:
        for start in range(0, len(transfer), size):
            count = min(size, len(transfer) - start)
            fetch = place + count > fetched * size
            word = content[fetched * size : (fetched + 1) * size] if fetch else rng.randbytes(size)
            tag = {"count": count, "last": int(start + count == len(transfer)), "offset": place % size}
            tag["fetch"] = int(fetch)
            found.append({"data": int.from_bytes(word, "little"), "tag": tag})
            fetched += fetch
            place += count
    return found


@pytest.mark.parametrize("width", [64, 128, 256, 512])
@pytest.mark.parametrize(("offered", "accepted", "seed"), [(1.0, 1.0, 1), (0.5, 0.6, 2)])
def test_transfers_come_out_whole_and_without_a_bubble(width, offered, accepted, seed):
    print(f"seed {seed}")
    config, rng = preset("10g", data_width=width), random.Random(seed)
    dut, size = RxAligner(config), config.beat_bytes
    transfers = [rng.randbytes(rng.randrange(1, 4 * size)) for _ in range(60)]
    waiting = requests(rng, size, transfers)
    beats, found, part, cycles = len(waiting), [], b"", []

    async def bench(ctx: Any) -> None:
        nonlocal part
        for cycle in range(3000):
            if waiting and not ctx.get(dut.response.valid) and rng.random() < offered:
                ctx.set(dut.response.payload, waiting[0])
                ctx.set(dut.response.valid, 1)
            ctx.set(dut.output.ready, rng.random() < accepted)
            *_, taken, moved, beat = await ctx.tick().sample(
                dut.response.valid & dut.response.ready, dut.output.valid & dut.output.ready, dut.output.payload
            )
            if taken:
                waiting.pop(0)
                ctx.set(dut.response.valid, 0)
            if moved:
                cycles.append(cycle)
                part += beat.data.to_bytes(size, "little")[: beat.count]
                if beat.last:
                    found.append(part)
                    part = b""
            if len(cycles) == beats:
                return
        raise AssertionError(f"Waited 3000 cycles for {beats} beats: {len(cycles)} came")

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == transfers
    if offered == accepted == 1.0:
        assert cycles == list(range(dut.latency, dut.latency + beats))
