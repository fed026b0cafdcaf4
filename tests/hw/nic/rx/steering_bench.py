# SPDX-License-Identifier: BSD-2-Clause
"""RxSteering between a parser and a planner, both in Python, and the registers that it listens to."""

import random
from collections.abc import Iterable
from typing import Any

from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.abi.registers import register_map
from hw.abi.steering import RuleError, rule_message, rule_places
from hw.config import NicConfig
from hw.nic.rx.steering import RxSteering
from tests.hw.nic.queue_writes import write_register
from tests.hw.nic.rx.flows import Flow

BOUND = 3000


class SteeringBench:
    """Offers frames (length, destination, flow) as fast as they are taken, or with ``stall`` as the chance to pause;
    the output pauses with the same chance. ``out`` has what came out, with the cycle: (cycle, payload)."""

    def __init__(self, config: NicConfig, *, seed: int = 0, stall: float = 0.0):
        print(f"seed {seed}")
        self.config, self.stall = config, stall
        self.random = random.Random(seed)
        self.dut = RxSteering(config)
        self.reset = Signal()
        self.out: list[tuple[int, Any]] = []
        self.taken: list[int] = []
        self.cycle = 0

    def run(self, scenario: Any, *others: Any) -> None:
        """Run ``scenario(ctx)``, and ``others`` beside it."""
        simulator = Simulator(ResetInserter(self.reset)(self.dut))
        simulator.add_clock(1e-6)
        simulator.add_testbench(scenario)
        simulator.add_testbench(self._take, background=True)
        for other in others:
            simulator.add_testbench(other, background=True)
        simulator.run()

    async def send(self, ctx: Any, frames: Iterable[tuple[int, bytes, Flow]]) -> None:
        """Offer frames one behind the other."""
        port = self.dut.input
        for number, (length, destination, flow) in enumerate(frames):
            while self.random.random() < self.stall:
                await ctx.tick()
            payload = {
                "length": length,
                "destination": int.from_bytes(destination, "little"),
                "info": {"packet_type": flow.packet_type, "vlan": length},
                "flow": flow.tuple,
            }
            ctx.set(port.payload, payload)
            ctx.set(port.valid, 1)
            for _ in range(BOUND):
                _, _, ready = await ctx.tick().sample(port.ready)
                if ready:
                    self.taken.append(self.cycle)
                    break
            else:
                raise AssertionError(f"Waited {BOUND} cycles for frame {number} to be taken")
            ctx.set(port.valid, 0)

    async def settle(self, ctx: Any, count: int) -> None:
        """Wait until ``count`` frames have come out in all, and no more come."""
        for _ in range(BOUND):
            await ctx.tick()
            if len(self.out) >= count:
                await ctx.tick().repeat(20)
                assert len(self.out) == count
                return
        raise AssertionError(f"Waited {BOUND} cycles for {count} frames, {len(self.out)} came")

    async def steer(self, ctx: Any, queue: int, address: bytes, enable: int = 1) -> None:
        """Write MAC_ADDRESS."""
        value = int.from_bytes(address, "little")
        await write_register(ctx, self.dut.write, "mac_address", queue, address=value, enable=enable)

    def set_rss(self, ctx: Any, key: bytes, types: Iterable[str]) -> None:
        """Registers RSS_KEY and RSS_TYPES."""
        ctx.set(self.dut.rss.key, int.from_bytes(key, "little"))
        register = register_map(1).port["rss_types"]
        ctx.set(self.dut.rss.types, {name: int(name in types) for name in register.fields})

    async def set_table(self, ctx: Any, queues: list[int]) -> None:
        """Registers RSS_TABLE."""
        port = self.dut.rss.table
        for row in range(len(queues) // 8):
            ctx.set(port.row, row)
            ctx.set(port.data, int.from_bytes(queues[8 * row : 8 * row + 8], "little"))
            ctx.set(port.write, 1)
            await ctx.tick()
        ctx.set(port.write, 0)

    def places(self, flow: Flow) -> list[int]:
        """Where a flow's rule may lie."""
        return rule_places(rule_message(**flow.tuple), self.config.steering_rules)

    async def insert(self, ctx: Any, flow: Flow, queue: int, index: int) -> RuleError:
        """Write a rule and command its insertion; what RULE_STATUS says."""
        window = self.dut.rules
        for name, value in (flow.tuple | flow.packet_type | {"queue": queue}).items():
            ctx.set(getattr(window, name), value)
        return await self._command(ctx, window.insert, index)

    async def remove(self, ctx: Any, index: int) -> RuleError:
        """Command a removal; what RULE_STATUS says."""
        return await self._command(ctx, self.dut.rules.remove, index)

    async def cleared(self, ctx: Any) -> int:
        """Wait until the table of rules is cleared; how long that took."""
        for cycle in range(BOUND):
            if not ctx.get(self.dut.rules.busy):
                return cycle
            await ctx.tick()
        raise AssertionError(f"Waited {BOUND} cycles for the table to be cleared")

    async def _command(self, ctx: Any, pulse: Any, index: int) -> RuleError:
        ctx.set(self.dut.rules.index, index)
        ctx.set(pulse, 1)
        await ctx.tick()
        ctx.set(pulse, 0)
        return ctx.get(self.dut.rules.error)

    async def _take(self, ctx: Any) -> None:
        port = self.dut.output
        held = None
        while True:
            ready = int(self.random.random() >= self.stall)
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            self.cycle += 1
            if held is not None and not ctx.get(self.reset):
                assert (valid, payload) == (1, held), "what is offered must hold until it is taken"
            held = payload if valid and not ready else None
            if valid and ready:
                self.out.append((self.cycle, payload))
