# SPDX-License-Identifier: BSD-2-Clause
"""A queue runs only with valid rings, stops when asked or at a fault, and is stopped only when all DMA is over."""

from itertools import permutations

import pytest

from hw.abi.rings import QueueError, QueueState
from hw.config import preset
from hw.nic.interfaces import WRITE_CYCLES
from hw.nic.lifecycle import RINGS, Lifecycle
from tests.hw.block_bench import BlockBench
from tests.hw.nic.queue_writes import write_register

QUEUES = 3


class Bench(BlockBench):
    """A lifecycle with two blocks and three fault ports."""

    def __init__(self, direction, pools=0):
        self.direction = direction
        self.dut = Lifecycle(preset("10g", queues=QUEUES, pools=pools), direction, blocks=2, faults=3)

    async def write(self, name, queue=1, **fields):
        """One register write, as soon after the last as they come; returns one cycle after it."""
        await self.ctx.tick().repeat(WRITE_CYCLES - 1)
        await write_register(self.ctx, self.dut.write, name, queue, **fields)

    async def rings(self, queue=1, entries=8, base=0x1000):
        for ring in RINGS[self.direction]:
            await self.write(f"{ring}_size", queue, entries=entries)
            await self.write(f"{ring}_base", queue, address=base)

    async def enable(self, value, queue=1):
        await self.write(f"{self.direction}_control", queue, enable=value)

    async def start(self, queue=1):
        await self.rings(queue)
        await self.enable(1, queue)
        await self.ctx.tick()

    def busy(self, block, mask):
        self.ctx.set(self.dut.control[block].busy, mask)

    async def fault(self, error, queue=1, port=0):
        stream = self.dut.faults[port]
        self.ctx.set(stream.payload, {"queue": queue, "error": error})
        self.ctx.set(stream.valid, 1)
        assert self.ctx.get(stream.ready)
        await self.ctx.tick()
        self.ctx.set(stream.valid, 0)

    def state(self, queue=1):
        status = self.dut.status[queue]
        return QueueState(self.ctx.get(status.state)), self.ctx.get(status.stopped)

    def error(self, queue=1):
        return QueueError(self.ctx.get(self.dut.status[queue].error))

    def enabled(self):
        masks = {self.ctx.get(control.enable) for control in self.dut.control}
        assert len(masks) == 1
        return masks.pop()


@pytest.fixture(params=["rx", "tx"])
def bench(request):
    return Bench(request.param)


def test_start_clears_one_cycle_then_enables(bench):
    async def run(b):
        ctx = b.ctx
        assert b.state() == (QueueState.DISABLED, 1)
        await b.rings()
        await b.enable(1)
        assert [ctx.get(control.clear) for control in b.dut.control] == [0b010, 0b010]
        assert ctx.get(b.dut.started) == 0b010
        assert b.enabled() == 0
        await ctx.tick()
        assert [ctx.get(control.clear) for control in b.dut.control] == [0, 0]
        assert b.enabled() == 0b010
        assert b.state() == (QueueState.ENABLED, 0)
        assert not ctx.get(b.dut.idle)
        await b.enable(1)
        assert ctx.get(b.dut.started) == 0
        assert b.state() == (QueueState.ENABLED, 0)

    bench.run(run)


def test_stop_waits_for_every_block(bench):
    async def run(b):
        await b.start()
        b.busy(0, 0b010)
        b.busy(1, 0b010)
        await b.enable(0)
        assert b.enabled() == 0
        for block in (1, 0):
            await b.ctx.tick().repeat(5)
            assert b.state() == (QueueState.DRAINING, 0)
            b.busy(block, 0b101)
        await b.ctx.tick()
        assert b.state() == (QueueState.DRAINING, 0)
        await b.ctx.tick()
        assert b.state() == (QueueState.DISABLED, 1)

    bench.run(run)


@pytest.mark.parametrize("end", ["enable", "fault", "stop"])
def test_what_a_block_begins_in_the_last_cycle_of_enable_is_waited_for(bench, end):
    async def run(b):
        ctx = b.ctx
        await b.start()
        if end == "enable":
            await b.enable(0)
        elif end == "fault":
            await b.fault(QueueError.RING_READ)
        else:
            ctx.set(b.dut.stop, 1)
            await ctx.tick()
        assert b.enabled() == 0
        b.busy(1, 0b010)
        for _ in range(10):
            assert b.state() == (QueueState.ERROR if end == "fault" else QueueState.DRAINING, 0)
            await ctx.tick()
        b.busy(1, 0)
        await ctx.tick().repeat(2)
        assert b.state() == (QueueState.ERROR if end == "fault" else QueueState.DISABLED, 1)

    bench.run(run)


def test_a_queue_stopped_as_it_starts_is_never_enabled(bench):
    async def run(b):
        await b.rings()
        await b.enable(1)
        assert b.ctx.get(b.dut.started) == 0b010
        b.ctx.set(b.dut.stop, 1)
        for _ in range(5):
            await b.ctx.tick()
            assert b.enabled() == 0
        assert b.state() == (QueueState.DISABLED, 1)

    bench.run(run)


@pytest.mark.parametrize("entries", [0, 1, 4, 7, 9, 12, 48, 32769, 65535])
def test_ring_size_is_checked_at_start(bench, entries):
    async def run(b):
        for position in range(2):
            await b.rings()
            await b.write(f"{RINGS[b.direction][position]}_size", entries=entries)
            await b.enable(1)
            assert b.state()[0] is QueueState.ERROR
            assert b.error() is QueueError.RING_SIZE
            assert b.ctx.get(b.dut.failed) == 0b010
            assert b.enabled() == 0
            await b.enable(0)
            await b.ctx.tick()
            assert b.state() == (QueueState.DISABLED, 1)
            assert b.error() is QueueError.RING_SIZE

    bench.run(run)


@pytest.mark.parametrize("entries", [8, 16, 256, 32768])
def test_every_power_of_two_in_range_is_a_ring_size(bench, entries):
    async def run(b):
        await b.rings(entries=entries)
        await b.enable(1)
        assert b.state()[0] is QueueState.ENABLED
        assert b.error() is QueueError.NONE

    bench.run(run)


@pytest.mark.parametrize("base", [1, 16, 32, 0x103F])
def test_ring_base_is_checked_at_start(bench, base):
    async def run(b):
        for position in range(2):
            await b.rings()
            await b.write(f"{RINGS[b.direction][position]}_base", address=base)
            await b.enable(1)
            assert b.state()[0] is QueueState.ERROR
            assert b.error() is QueueError.RING_BASE
            await b.enable(0)
            await b.ctx.tick()

    bench.run(run)


def test_a_fault_stops_its_queue_only(bench):
    async def run(b):
        for queue in range(QUEUES):
            await b.start(queue)
        assert b.enabled() == 0b111
        b.busy(0, 0b010)
        await b.fault(QueueError.RING_READ)
        assert b.enabled() == 0b101
        assert b.state() == (QueueState.ERROR, 0)
        assert b.ctx.get(b.dut.failed) == 0b010
        b.busy(0, 0)
        await b.ctx.tick()
        assert b.state() == (QueueState.ERROR, 1)
        await b.fault(QueueError.DOORBELL, port=1)
        assert b.error() is QueueError.RING_READ
        await b.enable(1)
        assert b.state() == (QueueState.ERROR, 1)
        assert b.ctx.get(b.dut.failed) == 0b010
        await b.enable(0)
        assert b.ctx.get(b.dut.failed) == 0
        await b.ctx.tick()
        assert b.state() == (QueueState.DISABLED, 1)
        await b.enable(1)
        assert b.error() is QueueError.NONE
        await b.ctx.tick()
        assert b.enabled() == 0b111

    bench.run(run)


def test_of_faults_in_one_cycle_the_lowest_port_counts(bench):
    async def run(b):
        await b.start(0)
        await b.start(1)
        for port, queue, error in (
            (0, 0, QueueError.RING_WRITE),
            (1, 1, QueueError.DOORBELL),
            (2, 1, QueueError.RING_READ),
        ):
            b.ctx.set(b.dut.faults[port].payload, {"queue": queue, "error": error})
            b.ctx.set(b.dut.faults[port].valid, 1)
        await b.ctx.tick()
        assert b.error(0) is QueueError.RING_WRITE
        assert b.error(1) is QueueError.DOORBELL
        assert b.ctx.get(b.dut.failed) == 0b011

    bench.run(run)


def test_function_reset_drains_all_and_starts_none(bench):
    async def run(b):
        for queue in range(QUEUES):
            await b.start(queue)
        b.busy(1, 0b100)
        b.ctx.set(b.dut.stop, 1)
        await b.ctx.tick()
        assert b.enabled() == 0
        await b.ctx.tick().repeat(2)
        assert b.state(0) == (QueueState.DISABLED, 1)
        assert b.state(2) == (QueueState.DRAINING, 0)
        assert not b.ctx.get(b.dut.idle)
        await b.enable(1, 0)
        assert b.state(0) == (QueueState.DISABLED, 1)
        b.busy(1, 0)
        await b.ctx.tick().repeat(2)
        assert b.state(2) == (QueueState.DISABLED, 1)
        assert not b.ctx.get(b.dut.idle)
        await b.ctx.tick()
        assert b.ctx.get(b.dut.idle)

    bench.run(run)


FILL, COMPLETION = 0xFEDC_BA98_7654_3200, 0x1000
ORDERS = list(permutations(("rx_pool", "rx_fill_base", "rx_completion_base")))


async def set_up(b, order, queue=1, *, enable=1, fill=FILL, completion=FILL):
    """Good rings, but for where they lie, and a pool, or none; registers in that order, the last right before a
    start."""
    for ring in RINGS["rx"]:
        await b.write(f"{ring}_size", queue, entries=8)
    fields = {
        "rx_pool": {"enable": enable, "pool": 5},
        "rx_fill_base": {"address": fill},
        "rx_completion_base": {"address": completion},
    }
    for name in order:
        await b.write(name, queue, **fields[name])
        b.ctx.set(b.dut.write.queue, 0)  # it means nothing where nothing is written


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("differs", [None, *range(6, 64, 19), 63])
def test_a_queue_with_a_pool_has_its_rings_apart(order, enable, differs):
    b = Bench("rx", pools=2)

    async def run(b):
        other = FILL if differs is None else FILL ^ 1 << differs
        await set_up(b, order, enable=enable, completion=other)
        await b.enable(1)
        refused = enable and differs is None
        assert b.state()[0] is (QueueState.ERROR if refused else QueueState.ENABLED)
        assert b.error() is (QueueError.IN_PLACE if refused else QueueError.NONE)
        await b.enable(0)
        await b.ctx.tick().repeat(3)
        assert b.state()[0] is QueueState.DISABLED
        await b.write("rx_fill_base", address=other ^ 0x40)
        await b.enable(1)
        assert b.state()[0] is QueueState.ENABLED

    b.run(run)


def test_rings_of_different_queues_may_share_their_places_and_a_pool():
    b = Bench("rx", pools=2)

    async def run(b):
        await set_up(b, ORDERS[0], 0, fill=FILL, completion=COMPLETION)
        await set_up(b, ORDERS[1], 2, fill=COMPLETION, completion=FILL)
        await set_up(b, ORDERS[2], 1)
        await b.write("rx_fill_base", 0, address=FILL + 64)
        for queue in range(QUEUES):
            await b.enable(1, queue)
        errors = [b.error(queue) for queue in range(QUEUES)]
        assert errors == [QueueError.NONE, QueueError.IN_PLACE, QueueError.NONE]

    b.run(run)


@pytest.mark.parametrize(("enable", "error"), [(0, QueueError.NONE), (1, QueueError.IN_PLACE)])
def test_rings_that_were_never_told_where_both_lie_at_0(enable, error):
    b = Bench("rx", pools=1)

    async def run(b):
        await set_up(b, ["rx_pool"], enable=enable)
        await b.enable(1)
        assert b.error() is error

    b.run(run)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rx_fill_size", {"entries": 9}, QueueError.RING_SIZE),
        ("rx_completion_base", {"address": FILL + 1}, QueueError.RING_BASE),
    ],
)
def test_what_is_wrong_with_a_ring_alone_is_told_first(name, value, error):
    b = Bench("rx", pools=1)

    async def run(b):
        await set_up(b, ORDERS[0])
        await b.write(name, **value)
        await b.enable(1)
        assert b.error() is error

    b.run(run)


@pytest.mark.parametrize(("direction", "pools"), [("tx", 2), ("rx", 0)])
def test_without_a_pool_rings_may_lie_in_one_place(direction, pools):
    b = Bench(direction, pools)

    async def run(b):
        await b.rings(base=0x1000)
        await b.enable(1)
        assert b.state()[0] is QueueState.ENABLED

    b.run(run)


def test_direction_is_checked():
    with pytest.raises(ValueError, match="Direction must be one of rx, tx, not 'up'"):
        Lifecycle(preset("10g"), "up", blocks=1, faults=1)
