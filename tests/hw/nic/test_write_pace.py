# SPDX-License-Identifier: BSD-2-Clause
"""Register writes as fast as the register block takes them: each finds the state that the one before led to."""

import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.abi.rings import QueueError, QueueState
from hw.bus.axi4 import Response
from hw.config import preset
from hw.nic.interfaces import WRITE_CYCLES
from hw.nic.lifecycle import RINGS, Lifecycle
from hw.nic.register_block import RegisterBlock
from hw.nic.reset import FunctionReset

QUEUES = 3
MAP = register_map(QUEUES)


class Bench:
    """The register block, both lifecycles and the function reset, as the NIC joins them; no block is ever busy."""

    def __init__(self):
        config = preset("10g", queues=QUEUES)
        self.registers, self.reset = RegisterBlock(config), FunctionReset()
        self.lifecycles = {way: Lifecycle(config, way, blocks=1, faults=0) for way in RINGS}
        self.top = m = Module()
        m.submodules += [self.registers, self.reset, *self.lifecycles.values()]
        for way, lifecycle in self.lifecycles.items():
            connect(m, self.registers.write, lifecycle.write)
            m.d.comb += [
                lifecycle.stop.eq(self.reset.resetting),
                getattr(self.registers, f"{way}_status").eq(lifecycle.status),
            ]
        m.d.comb += [
            self.registers.resetting.eq(self.reset.resetting),
            self.registers.hold.eq(self.reset.hold),
            self.reset.request.eq(self.registers.control.reset),
            self.reset.drained.eq(Cat(lifecycle.idle for lifecycle in self.lifecycles.values()).all()),
            self.reset.quiet.eq(self.registers.idle),
        ]

    def run(self, bench, *watchers):
        simulator = Simulator(self.top)
        simulator.add_clock(1e-6)
        for watcher in watchers:
            simulator.add_testbench(watcher, background=True)
        simulator.add_testbench(bench)
        simulator.run()

    async def write(self, ctx, accesses):
        """Write registers of queue 1, or of the port, one behind the other; the responses."""
        bus, responses, cycles, cycle = self.registers.bus, [], [], 0
        for signal in (bus.aw.valid, bus.w.valid, bus.b.ready):
            ctx.set(signal, 1)
        left = [
            (MAP.address(name, 1), MAP.queue[name].pack(**fields))
            if name in MAP.queue
            else (MAP.address(name), MAP.port[name].pack(**fields))
            for name, fields in accesses
        ]
        while len(responses) < len(accesses):
            assert cycle < 20 * len(accesses), f"only {len(responses)} of {len(accesses)} writes were answered"
            if left:
                ctx.set(bus.aw.payload.addr, left[0][0])
                ctx.set(bus.w.payload, {"data": left[0][1], "strb": 0xFF})
            _, _, taken, answered, response = await ctx.tick().sample(
                bus.aw.ready & bus.aw.valid, bus.b.valid, bus.b.payload.resp
            )
            cycle += 1
            if taken:
                left.pop(0)
                ctx.set(bus.aw.valid, bool(left))
                ctx.set(bus.w.valid, bool(left))
            if answered:
                responses.append(Response(response))
                cycles.append(cycle)
        assert cycles == list(range(cycles[0], cycle + 1, WRITE_CYCLES))
        return responses

    def status(self, ctx, way):
        status = self.lifecycles[way].status[1]
        return QueueState(ctx.get(status.state)), QueueError(ctx.get(status.error))


def rings(way, last, **fields):
    """Writes of good ring registers, of which the last one is ``last``."""
    good = {}
    for ring in RINGS[way]:
        good |= {f"{ring}_size": {"entries": 64}, f"{ring}_base": {"address": 0x1000}}
    good.pop(last)
    return [*good.items(), (last, fields)]


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("way", RINGS)
@pytest.mark.parametrize("position", range(2))
@pytest.mark.parametrize(
    ("what", "value", "error"),
    [
        ("size", {"entries": 64}, QueueError.NONE),
        ("size", {"entries": 24}, QueueError.RING_SIZE),
        ("base", {"address": 0x40}, QueueError.NONE),
        ("base", {"address": 0x48}, QueueError.RING_BASE),
    ],
)
def test_the_ring_register_written_just_before_the_start_counts(bench, way, position, what, value, error):
    async def run(ctx):
        writes = rings(way, f"{RINGS[way][position]}_{what}", **value)
        assert set(await bench.write(ctx, [*writes, (f"{way}_control", {"enable": 1})])) == {Response.OKAY}
        await ctx.tick().repeat(2)
        assert bench.status(ctx, way) == (QueueState.ENABLED if error is QueueError.NONE else QueueState.ERROR, error)

    bench.run(run)


@pytest.mark.parametrize("way", RINGS)
def test_a_write_just_after_the_start_or_the_stop_is_judged_by_it(bench, way):
    heard = []

    async def listen(ctx):
        async for _, _, rung in ctx.tick().sample(bench.registers.write.at[f"{way}_doorbell"]):
            heard.append(rung)

    async def run(ctx):
        size, control, doorbell = f"{RINGS[way][0]}_size", f"{way}_control", f"{way}_doorbell"
        accesses = [
            *rings(way, size, entries=64),
            (doorbell, {}),
            (control, {"enable": 1}),
            (size, {"entries": 64}),
            (doorbell, {}),
            (control, {"enable": 0}),
            (doorbell, {}),
            (size, {"entries": 64}),
        ]
        responses = await bench.write(ctx, accesses)
        refused = [number for number, response in enumerate(responses) if response is not Response.OKAY]
        assert refused == [6]
        await ctx.tick().repeat(WRITE_CYCLES)
        assert sum(heard) == 1

    bench.run(run, listen)


@pytest.mark.parametrize("way", RINGS)
@pytest.mark.parametrize("between", range(3))
def test_a_start_just_before_a_function_reset_is_drained_and_one_after_it_refused(bench, way, between):
    """``hold`` must never be up while a queue runs."""
    broken = []

    async def watch(ctx):
        running = bench.lifecycles[way].control[0].enable.any() | bench.lifecycles[way].started.any()
        states = [status.state for status in bench.lifecycles[way].status]
        async for _, _, hold, runs, *states_now in ctx.tick().sample(bench.reset.hold, running, *states):
            settled = {QueueState(state) for state in states_now} <= {QueueState.DISABLED, QueueState.ERROR}
            broken.append(bool(hold and (runs or not settled)))

    async def run(ctx):
        control = (f"{way}_control", {"enable": 1})
        accesses = [*rings(way, f"{RINGS[way][1]}_base", address=0), control]
        accesses += [("device", {"device_id": 7})] * between + [("control", {"reset": 1}), control]
        responses = await bench.write(ctx, accesses)
        assert responses == [Response.OKAY] * (len(accesses) - 1) + [Response.SLVERR]
        for _ in range(60):
            if not ctx.get(bench.reset.resetting):
                break
            await ctx.tick()
        else:
            raise AssertionError("waited 60 cycles for the end of the function reset")
        assert bench.status(ctx, way)[0] is QueueState.DISABLED
        assert len(broken) > 30
        assert not any(broken)

    bench.run(run, watch)
