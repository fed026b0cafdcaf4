# SPDX-License-Identifier: BSD-2-Clause
"""The write channel: order, data, faults, fences, throughput."""

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.abi.iommu import Cause, TransactionType
from hw.bus.axi4 import Response
from hw.iommu.write_channel import WriteChannel
from tests.hw.iommu.channel_bench import PAGE, SMALL, ChannelBench


def test_hits_add_four_cycles_and_take_one_each() -> None:
    bench = ChannelBench()
    bench.hit(1, 2)

    async def main(b: ChannelBench) -> None:
        writes = [b.manager.write(PAGE * (1 + n % 2) + 8 * n, bytes(8), id=n % 3) for n in range(50)]
        await b.finish()
        # The memory counts cycles from 1.
        assert [out.cycle - 1 - write.addressed for out, write in zip(b.memory.writes, writes, strict=True)] == [4] * 50
        assert [beat.cycle - 1 - writes[0].addressed for beat in b.memory.write_beats] == list(range(4, 54))
        assert writes[-1].answered - writes[0].answered == 49

    bench.run(main)


@pytest.mark.parametrize("seed", range(16))
def test_memory_sees_bursts_in_the_order_of_their_addresses(seed: int) -> None:
    """Random hits, misses, refusals of walks, faults, lengths, IDs and stalls: what leaves is what came, without what
    faulted, and each ID's responses keep their order (which the manager checks)."""
    rng = random.Random(seed)
    config = replace(SMALL, writes=rng.randint(2, 9), walks=rng.randint(1, 4), outstanding=rng.choice((1, 4, 16)))
    stall = rng.choice((0.0, 0.1, 0.5))
    bench = ChannelBench(config, seed=seed, stall=stall, latency=(1, 30), retry=rng.choice((0.0, 0.4)))
    bench.writes.latency = rng.choice((1, 10, 60))
    bench.writes.keep = rng.random() < 0.7
    bench.hit(1, 2)
    bench.map(3, 4, 5, 6, 7, 8)

    async def main(b: ChannelBench) -> None:
        writes = []
        for n in range(60):
            page = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9 if n % 3 else 1))
            beats = rng.choice((1, 1, 2, 5))
            address = page * PAGE + 8 * rng.randrange(512 - beats)
            writes.append(b.manager.write(address, rng.randbytes(8 * beats), id=rng.randrange(3)))
        await b.finish()
        good = [write for write in writes if write.address // PAGE != 9]
        assert [(out.id, out.address, out.beats) for out in b.memory.writes] == [
            (write.id, b.physical(write), write.beats) for write in good
        ]
        sent = b"".join(beat.data.to_bytes(8, "little") for beat in b.memory.write_beats)
        assert sent == b"".join(write.data for write in good)
        for write in writes:
            b.check(write)
        assert [report.iotval for _, _, report in b.faults] == [w.address for w in writes if w.address // PAGE == 9]
        assert b.faulted == len(writes) - len(good)

    bench.run(main)


def test_misses_overlap_up_to_the_slots() -> None:
    """Miss under miss: translations are asked for as addresses come, and a page's walk is shared."""
    bench = ChannelBench(replace(SMALL, writes=6, walks=4), latency=4)
    bench.map(*range(1, 9))

    async def main(b: ChannelBench) -> None:
        for page in (1, 2, 3, 3, 4, 1):
            b.manager.write(page * PAGE, bytes(8))
        await b.finish()
        assert b.writes.most == 4
        cycles = [out.cycle for out in b.memory.writes]
        assert cycles[-1] - cycles[0] == 5

    bench.run(main)


def test_data_may_come_before_its_address() -> None:
    bench = ChannelBench()
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        ports = b.write_channel.device
        b.ctx.set(ports.w.payload, {"data": 0x1122, "strb": 0xFF, "last": 1})
        b.ctx.set(ports.w.valid, 1)
        for _ in range(8):
            _, _, ready = await b.ctx.tick().sample(ports.w.ready)
            assert ready
        b.ctx.set(ports.w.valid, 0)
        await b.ctx.tick().repeat(10)
        assert not b.memory.write_beats
        b.ctx.set(ports.aw.payload, {"addr": PAGE, "size": 3})
        b.ctx.set(ports.aw.valid, 1)
        for _ in range(8):
            _, _, ready = await b.ctx.tick().sample(ports.aw.ready)
            assert ready
        b.ctx.set(ports.aw.valid, 0)
        b.ctx.set(ports.b.ready, 1)
        await b.ctx.tick().repeat(30)
        assert len(b.memory.write_beats) == 8
        assert b.memory.idle

    # The bench drives the ports itself.
    bench.manager.attach = lambda sim: None
    bench.run(main)


def test_an_address_does_not_wait_for_data() -> None:
    bench = ChannelBench()
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        aw = b.write_channel.device.aw
        b.ctx.set(aw.payload, {"addr": PAGE, "size": 3})
        b.ctx.set(aw.valid, 1)
        await b.ctx.tick().repeat(8)
        b.ctx.set(aw.valid, 0)
        await b.ctx.tick().repeat(8)
        assert len(b.memory.writes) == 8

    bench.manager.attach = lambda sim: None
    bench.run(main)


def test_a_fault_waits_for_the_responses_before_it_and_other_ids_do_not() -> None:
    bench = ChannelBench(latency=100)
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        before = b.manager.write(PAGE, bytes(8), id=1)
        fault = b.manager.write(9 * PAGE + 0x18, bytes(24), id=1)
        other = b.manager.write(PAGE, bytes(8), id=2)
        after = b.manager.write(PAGE, bytes(8), id=1)
        await b.finish()
        assert fault.response is Response.SLVERR
        assert before.answered < fault.answered < after.answered
        assert b.memory.writes[1].cycle < before.answered
        assert other.answered < after.answered
        ((name, cycle, report),) = b.faults
        assert (name, report.cause, report.ttyp) == ("write", Cause.WRITE_PAGE, TransactionType.UNTRANSLATED_WRITE)
        assert (report.iotval, report.iotval2, report.device_id) == (9 * PAGE + 0x18, 0x1234, 0)
        assert cycle < fault.answered

    bench.run(main)


def test_a_quiet_fault_is_answered_without_a_report() -> None:
    bench = ChannelBench()
    bench.writes.quiet = True

    async def main(b: ChannelBench) -> None:
        fault = b.manager.write(9 * PAGE, bytes(24))
        await b.finish()
        assert fault.response is Response.SLVERR
        assert b.faults == []
        assert b.faulted == 1

    bench.run(main)


def test_exclusive_writes_pass() -> None:
    bench = ChannelBench()
    bench.hit(1)

    async def main(b: ChannelBench) -> None:
        b.manager.write(PAGE, bytes(8), lock=True)
        await b.finish()
        assert b.memory.writes[0].lock

    bench.run(main)


def test_a_fence_sees_accesses_until_their_response() -> None:
    """``busy`` of a color is on from the cycle after acceptance to the cycle of the last response, whatever happens in
    between, and the other color is not concerned."""
    bench = ChannelBench(latency=30)
    bench.map(1, 2)

    async def main(b: ChannelBench) -> None:
        await b.check_fence(
            b.write_channel.fence,
            lambda: [b.manager.write(PAGE * page, bytes(8), id=1) for page in (1, 2, 9)],
            lambda: [b.manager.write(PAGE, bytes(8), id=identifier) for identifier in (1, 2, 1)],
        )

    bench.run(main)


def test_a_fence_sees_as_many_accesses_as_the_channel_can_hold() -> None:
    """One at memory, one refused, and every slot taken: their number is a power of two, and not lost."""
    bench = ChannelBench(replace(SMALL, outstanding=1, writes=2), latency=30)
    bench.hit(1)
    bench.writes.latency = 4

    async def main(b: ChannelBench) -> None:
        await b.check_fence(
            b.write_channel.fence,
            lambda: [b.manager.write(PAGE * page, bytes(8), id=1) for page in (1, 9, 1, 1)],
            lambda: [b.manager.write(PAGE, bytes(8), id=1)],
        )

    bench.run(main)


@pytest.mark.parametrize("config", [None, 3])
def test_parameters(config: Any) -> None:
    with pytest.raises(TypeError, match=f"must be an IommuConfig, not {config!r}"):
        WriteChannel(config)
