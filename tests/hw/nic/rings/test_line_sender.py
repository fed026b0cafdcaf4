# SPDX-License-Identifier: BSD-2-Clause
"""LineSender: which entries a write carries, when it is commanded, and where to."""

import random
from itertools import pairwise

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.nic.rings.line_sender import LineSender
from tests.hw.nic.queue_writes import write_register

RX = {"base": "rx_completion_base", "size": "rx_completion_size"}
ENTRIES = 16
COMMAND_CYCLES = 6  #: from the entry that completes a line to the command
TIMER_CYCLES = 1  #: that a deadline costs beside


class SenderBench:
    """A sender, and a staging memory's counts; every command, line and write that came, with its cycle."""

    def __init__(self, **changes):
        self.config = preset("10g", **{"queues": 3} | changes)
        self.dut = LineSender(self.config, **RX)
        self.sim = Simulator(self.dut)
        self.sim.add_clock(1e-6)
        self.cycle = 0
        self.accepted = [0] * self.config.queues
        self.came = {"command": [], "lines": [], "writes": []}
        self.ready = dict.fromkeys(self.came, True)

    def base(self, queue):
        return 0xFFFF_FFC0 + (0x1_0000_0000 * queue)

    async def start(self, ctx, timeout):
        ctx.set(self.dut.timeout, timeout)
        for queue in range(self.config.queues):
            await write_register(ctx, self.dut.queue_write, RX["base"], queue, address=self.base(queue))
            await write_register(ctx, self.dut.queue_write, RX["size"], queue, entries=ENTRIES)
        ctx.set(self.dut.enable, -1)
        await ctx.tick().repeat(2)

    async def accept(self, ctx, *queues):
        """One entry a cycle; gives the cycle of the last."""
        for queue in queues:
            ctx.set(self.dut.accepts, 1 << queue)
            now = self.cycle
            await ctx.tick()
            self.accepted[queue] += 1
            ctx.set(self.dut.accepted[queue], self.accepted[queue] % 64)
        ctx.set(self.dut.accepts, 0)
        return now

    async def watch(self, ctx):
        """Take what is offered; a command is noted as soon as it is offered."""
        ports = {name: getattr(self.dut, name) for name in self.came}
        samples = [signal for port in ports.values() for signal in (port.valid, port.payload)]
        taking, seen = {}, False
        for name, port in ports.items():
            ctx.set(port.ready, taking.setdefault(name, self.ready[name]))
        async for _, _, *values in ctx.tick().sample(*samples):
            for (name, port), valid, payload in zip(ports.items(), values[::2], values[1::2], strict=True):
                if valid and (not seen if name == "command" else taking[name]):
                    self.came[name].append((self.cycle, payload))
                if name == "command":
                    seen = valid and not taking[name]
                taking[name] = self.ready[name]
                ctx.set(port.ready, taking[name])
            self.cycle += 1

    def run(self, testbench):
        self.sim.add_process(self.watch)
        self.sim.add_testbench(testbench)
        self.sim.run()

    def commands(self):
        return [(cycle, command.queue, command.address, command.length) for cycle, command in self.came["command"]]


def test_a_whole_line_is_commanded_after_six_cycles_and_another_every_second():
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, 1000)
        await bench.accept(ctx, 0, 0, 0, 1, 1, 1, 2, 2, 2)
        whole = await bench.accept(ctx, 0, 1, 2)
        await ctx.tick().repeat(30)
        first = whole - 2 + COMMAND_CYCLES
        assert bench.commands() == [(first + 2 * queue, queue, bench.base(queue), 64) for queue in range(3)]

    bench.run(testbench)


@pytest.mark.parametrize("timeout", [0, 1, 5, 300])
def test_a_part_of_a_line_waits_for_the_timeout_of_its_oldest(timeout):
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, timeout)
        for lap in range(2):
            oldest = await bench.accept(ctx, 1)
            younger = lap if timeout else 0
            if younger:
                await bench.accept(ctx, 1)
            await ctx.tick().repeat(timeout + 20)
            due, _, address, length = bench.commands()[lap]
            assert due == oldest + timeout + COMMAND_CYCLES + TIMER_CYCLES
            assert address == bench.base(1) + 16 * lap
            assert length == 16 * (1 + younger)

    bench.run(testbench)


@pytest.mark.parametrize("after", range(40, 52))
def test_an_entry_that_comes_while_others_are_sent_has_its_own_time(after):
    """It goes with them, or after a timeout of its own, whichever cycle it comes in."""
    timeout = 40
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, timeout)
        await bench.accept(ctx, 0)
        await ctx.tick().repeat(after - 1)
        second = await bench.accept(ctx, 0)
        await ctx.tick().repeat(timeout + 20)
        (_, *first), *others = bench.commands()
        if first == [0, bench.base(0), 32]:
            assert not others
        else:
            ((cycle, *last),) = others
            assert first == [0, bench.base(0), 16]
            assert last == [0, bench.base(0) + 16, 16]
            assert 0 <= cycle - (second + timeout + COMMAND_CYCLES + TIMER_CYCLES) <= 1

    bench.run(testbench)


def test_a_queue_without_pause_sends_whole_lines_as_they_come():
    """One entry a cycle: a line every fourth, none later than the first."""
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, 1000)
        begin = bench.cycle
        await bench.accept(ctx, *[0] * 32)
        await ctx.tick().repeat(20)
        commands = bench.commands()
        assert [cycle - begin for cycle, *_ in commands] == [3 + 4 * line + COMMAND_CYCLES for line in range(8)]
        assert [address for _, _, address, _ in commands] == [bench.base(0) + line % 4 * 64 for line in range(8)]
        assert [line.phase for _, line in bench.came["lines"]] == [1, 1, 1, 1, 0, 0, 0, 0]

    bench.run(testbench)


def test_lines_of_one_queue_follow_every_third_cycle():
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, 1000)
        bench.ready["command"] = False
        await ctx.tick()
        await bench.accept(ctx, *[0] * 32)
        await ctx.tick().repeat(10)
        bench.ready["command"] = True
        await ctx.tick().repeat(60)
        cycles = [cycle for cycle, *_ in bench.commands()]
        assert len(cycles) == 8
        # Two were on their way behind the first.
        assert [later - sooner for sooner, later in pairwise(cycles[3:])] == [3] * 4

    bench.run(testbench)


def test_a_queue_that_is_not_enabled_sends_what_it_has():
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, 60000)
        await bench.accept(ctx, 2, 2)
        await ctx.tick().repeat(20)
        assert not bench.commands()
        assert ctx.get(bench.dut.unsent) == 0b100
        ctx.set(bench.dut.enable, 0b011)
        await ctx.tick().repeat(10)
        assert [(queue, length) for _, queue, _, length in bench.commands()] == [(2, 32)]
        assert ctx.get(bench.dut.unsent) == 0

    bench.run(testbench)


def test_nothing_more_is_sent_of_a_broken_queue_nor_after_it_is_cleared():
    bench = SenderBench()

    async def testbench(ctx):
        await bench.start(ctx, 0)
        ctx.set(bench.dut.broken, 0b001)
        await bench.accept(ctx, *[0] * 6)
        await ctx.tick().repeat(20)
        assert not bench.commands()
        ctx.set(bench.dut.clear, 0b001)
        await ctx.tick()
        ctx.set(bench.dut.clear, 0)
        ctx.set(bench.dut.broken, 0)
        bench.accepted[0] = 0
        ctx.set(bench.dut.accepted[0], 0)
        await ctx.tick().repeat(20)
        assert not bench.commands()

    # The counts are cleared with it, in one edge, by who keeps them.
    async def staging(ctx):
        async for _, _, clear in ctx.tick().sample(bench.dut.clear):
            if clear:
                ctx.set(bench.dut.accepted[0], 0)

    bench.sim.add_process(staging)
    bench.run(testbench)


@pytest.mark.parametrize(("held", "most"), [("lines", 8), ("writes", 5)])
def test_writes_under_way_are_bounded(held, most):
    """By the entries that DMA has yet to take, and by the responses; one more may wait for its command."""
    bench = SenderBench(outstanding_writes=5)

    async def testbench(ctx):
        await bench.start(ctx, 0)
        bench.ready[held] = False
        await ctx.tick()
        for _ in range(20):
            await bench.accept(ctx, 0)
            await ctx.tick().repeat(12)
            if len(bench.commands()) < bench.accepted[0]:
                break
        assert len(bench.commands()) == most
        bench.ready[held] = True
        await ctx.tick().repeat(100)
        assert sum(length for *_, length in bench.commands()) == 16 * bench.accepted[0]

    bench.run(testbench)


@pytest.mark.parametrize("seed", range(3))
def test_every_entry_is_sent_once_in_lines_with_the_phase_of_its_pass(seed):
    bench = SenderBench()
    random_ = random.Random(seed)
    print("seed", seed)

    async def testbench(ctx):
        await bench.start(ctx, 10)
        for _ in range(600):
            queue = random_.randrange(3)
            waiting = (bench.accepted[queue] - ctx.get(bench.dut.sent[queue])) & 0xFFFF
            if random_.random() < 0.7 and waiting < 30:
                await bench.accept(ctx, queue)
            else:
                await ctx.tick()
            for name in bench.ready:
                bench.ready[name] = random_.random() < 0.6
        bench.ready = dict.fromkeys(bench.ready, True)
        await ctx.tick().repeat(200)

    bench.run(testbench)
    sent = [0] * 3
    assert len(bench.came["command"]) == len(bench.came["lines"]) == len(bench.came["writes"])
    for (_, command), (_, line), (_, write) in zip(*bench.came.values(), strict=True):
        queue, index = command.queue, sent[command.queue]
        assert command.address == bench.base(queue) + index % ENTRIES * 16
        assert command.length == 16 * line.count == 16 * write.count
        assert 0 < line.count <= 4 - index % 4
        assert (line.queue, write.queue) == (queue, queue)
        assert line.first == index % 32
        assert line.phase == 1 - index // ENTRIES % 2
        sent[queue] += line.count
    assert sent == bench.accepted
    assert min(sent) > 64
