# SPDX-License-Identifier: BSD-2-Clause
"""Every counter of the register description against a plain count of the same events."""

import random
from collections import Counter

import pytest
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.abi.rings import CompletionError
from hw.config import preset
from hw.nic.stats.counters import PORT_DROPS, SIZE_BOUNDS, Stats, _parts, _row, queue_drops


@pytest.mark.parametrize("pools", [0, 2])
def test_every_counter_of_the_description_has_parts_and_a_row_of_its_own(pools):
    registers = register_map(3, pools=pools)
    described = {(name, None) for name in registers.port if "." in name}
    described |= {(name, queue) for name in registers.queue if "." in name for queue in range(3)}
    missing = set() if pools else {("counters.drop_pool_limit", queue) for queue in range(3)}
    assert missing <= described
    counted = {(part.counter, part.queue) for part in _parts(preset("10g", queues=3, pools=pools))}
    assert counted == described - missing
    assert len({_row(registers, *counter) for counter in described}) == len(described)


def size_class(length):
    return next((name for name, bound in SIZE_BOUNDS.items() if length <= bound), "size_max")


def frame(model, side, length, cast):
    model.update({f"{side}.frames": 1, f"{side}.bytes": length, f"{side}.{cast}": 1, f"{side}.{size_class(length)}": 1})


class Events:
    """Random events on all ports at once, into the hardware and into the model."""

    def __init__(self, stats, config, rng):
        self.stats, self.queues, self.rng = stats, config.queues, rng
        self.drops = queue_drops(config)
        self.model = Counter()

    def drive(self, ctx, load):
        stats, rng = self.stats, self.rng
        for port in (stats.rx, stats.tx, stats.queue_rx_delivered, stats.queue_rx_dropped, stats.queue_tx):
            ctx.set(port.strobe, 0)
        ctx.set(stats.interrupt.strobe, 0)
        for port, count in (
            (stats.rx, self.rx),
            (stats.tx, self.tx),
            (stats.queue_rx_delivered, self.delivered),
            (stats.queue_rx_dropped, self.dropped),
            (stats.queue_tx, self.transmitted),
            (stats.interrupt, self.interrupted),
        ):
            if rng.random() < load:
                ctx.set(port.strobe, 1)
                count(ctx, port)

    def port_frame(self, ctx, port, side):
        length = self.rng.choice((14, 60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1514, 1515, 9216))
        cast = self.rng.choice(("unicast", "multicast", "broadcast"))
        ctx.set(port.length, length)
        ctx.set(port.multicast, cast != "unicast")
        ctx.set(port.broadcast, cast == "broadcast")
        frame(self.model, side, length, cast)

    def rx(self, ctx, port):
        self.port_frame(ctx, port, "rx")
        reason, dropped = self.rng.choice(PORT_DROPS), self.rng.random() < 0.5
        ctx.set(port.dropped, dropped)
        ctx.set(port.reason, reason)
        self.model[f"rx.drop_{reason.name.lower()}"] += dropped

    def tx(self, ctx, port):
        self.port_frame(ctx, port, "tx")

    def queue(self, ctx, port):
        queue = self.rng.randrange(self.queues)
        ctx.set(port.queue, queue)
        return queue

    def count(self, queue, name, amount=1):
        self.model[queue, f"counters.{name}"] += amount

    def delivered(self, ctx, port):
        queue, length, fault = self.queue(ctx, port), self.rng.randrange(60, 9217), self.rng.random() < 0.3
        ctx.set(port.length, length)
        ctx.set(port.fault, fault)
        self.count(queue, "rx_packets")
        self.count(queue, "rx_bytes", length)
        self.count(queue, "rx_write_fault", fault)

    def dropped(self, ctx, port):
        queue, reason = self.queue(ctx, port), self.rng.choice(self.drops)
        ctx.set(port.dropped, 1)
        ctx.set(port.reason, reason)
        self.count(queue, f"drop_{reason.name.lower()}")

    def transmitted(self, ctx, port):
        queue, length = self.queue(ctx, port), self.rng.randrange(14, 9217)
        errors = (CompletionError.READ_FAULT, CompletionError.FRAME_LENGTH, CompletionError.OFFLOAD)
        error = self.rng.choice((CompletionError.NONE, *errors))
        aborted = self.rng.random() < 0.2
        ctx.set(port.length, length)
        ctx.set(port.error, error)
        ctx.set(port.aborted, aborted)
        if aborted:
            self.count(queue, "tx_aborted")
        elif error is CompletionError.NONE:
            self.count(queue, "tx_packets")
            self.count(queue, "tx_bytes", length)
        else:
            self.count(queue, f"tx_{error.name.lower()}")

    def interrupted(self, ctx, port):
        self.count(self.queue(ctx, port), "interrupts")


@pytest.mark.parametrize(("queues", "load", "pools"), [(1, 1.0, 0), (2, 0.9, 2), (3, 0.3, 0)])
def test_a_snapshot_shows_what_happened_up_to_one_cycle(queues, load, pools):
    seed = 100 + queues
    print(f"seed {seed}")
    config = preset("10g", queues=queues, pools=pools)
    stats = Stats(config)
    events = Events(stats, config, random.Random(seed))
    registers = register_map(queues)
    history = []  # what happened before each cycle since `snapshot`

    async def read(ctx, address):
        ctx.set(stats.read_address, address)
        await ctx.tick().repeat(2)
        return ctx.get(stats.read_value)

    async def counters(ctx):
        values = Counter()
        for name in registers.port:
            if "." in name:
                values[name] = await read(ctx, registers.address(name))
        for queue in range(queues):
            for name in registers.queue:
                if "." in name:
                    values[queue, name] = await read(ctx, registers.address(name, queue))
        return values

    async def bench(ctx):
        assert not any((await counters(ctx)).values())
        for wait in (150, 1, 40, stats.period):
            for _ in range(wait):
                events.drive(ctx, load)
                await ctx.tick()
            history.clear()
            ctx.set(stats.snapshot, 1)
            while not history or ctx.get(stats.busy):
                history.append(Counter(events.model))
                assert len(history) <= 2 * stats.period + 5, "snapshot takes too long"
                events.drive(ctx, load)
                await ctx.tick()
                ctx.set(stats.snapshot, 0)
            events.drive(ctx, 0.0)
            assert (await counters(ctx)) in history[: stats.period]

    sim = Simulator(stats)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_what_happened_before_a_snapshot_is_in_it_and_what_comes_later_is_not():
    stats = Stats(preset("10g", queues=1))

    async def interrupt(ctx, snapshot=0):
        ctx.set(stats.interrupt.strobe, 1)
        ctx.set(stats.snapshot, snapshot)
        await ctx.tick()
        ctx.set(stats.interrupt.strobe, 0)
        ctx.set(stats.snapshot, 0)

    async def bench(ctx):
        ctx.set(stats.read_address, register_map(1).address("counters.interrupts", 0))
        happened = 0
        for _ in range(2 * stats.period):
            await interrupt(ctx)
            happened += 1
            ctx.set(stats.snapshot, 1)
            await ctx.tick()
            ctx.set(stats.snapshot, 0)
            for _ in range(stats.period):
                await ctx.tick()
            await interrupt(ctx)
            for _ in range(stats.period + 4):
                await ctx.tick()
            assert not ctx.get(stats.busy)
            await ctx.tick()
            assert ctx.get(stats.read_value) == happened
            happened += 1

    sim = Simulator(stats)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
