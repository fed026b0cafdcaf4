# SPDX-License-Identifier: BSD-2-Clause
"""Stand-ins for the blocks around the RX and TX paths: descriptor cache and completion slots."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import ENTRY_BYTES
from hw.config import NicConfig
from hw.nic.interfaces import CompletionSlots, DescriptorPort


class DescriptorCache(wiring.Component):
    """A cache into which the bench pushes descriptors, one a cycle, and whose ``fetching`` bits the bench drives.

    ``level`` counts the descriptors of each queue that have arrived and are not taken, and ``underrun`` remembers that
    more were taken.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "port": In(DescriptorPort(config)),
                "push": In(1),
                "push_queue": In(range(config.queues)),
                "push_entry": In(8 * ENTRY_BYTES),
                "level": Out(range(config.fetch_depth + 1)).array(config.queues),
                "fetching": In(config.queues),
                "clear": In(config.queues),
                "underrun": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._config.fetch_depth
        m.submodules.storage = storage = memory.Memory(
            shape=8 * ENTRY_BYTES, depth=self._config.queues * depth, init=[]
        )
        write, read = storage.write_port(), storage.read_port()
        port = self.port
        levels = Array(self.level)
        tails = Array(Signal(range(depth), name=f"tail_{q}") for q in range(self._config.queues))
        m.d.comb += [
            port.arrived.strobe.eq(self.push),
            port.arrived.queue.eq(self.push_queue),
            port.arrived.entry.eq(self.push_entry),
            port.fetching.eq(self.fetching),
            write.addr.eq(self.push_queue * depth + tails[self.push_queue]),
            write.data.eq(self.push_entry),
            write.en.eq(self.push),
            read.addr.eq(port.read_queue * depth + port.read_index),
            read.en.eq(port.read_enable),
        ]
        with m.If(port.read_enable):
            m.d.sync += port.entry.eq(read.data)
        for queue in range(self._config.queues):
            taken = Signal.like(port.take.count, name=f"taken_{queue}")
            pushed = self.push & (self.push_queue == queue)
            m.d.comb += taken.eq(Mux(port.take.strobe & (port.take.queue == queue), port.take.count, 0))
            m.d.sync += [
                tails[queue].eq(tails[queue] + pushed),
                levels[queue].eq(levels[queue] - taken + pushed),
            ]
            with m.If(taken > levels[queue]):
                m.d.sync += self.underrun.eq(1)
            with m.If(self.clear[queue]):
                m.d.sync += [tails[queue].eq(0), levels[queue].eq(0)]
        return m


class SlotCounter(wiring.Component):
    """Free completion slots of each queue: ``initial``, less what is reserved, plus what the bench gives back."""

    def __init__(self, config: NicConfig, initial: int = 1000):
        self._config = config
        self._initial = initial
        super().__init__(
            {
                "port": In(CompletionSlots(config)),
                "give": In(16),
                "give_queue": In(range(config.queues)),
                "overrun": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port = self.port
        counts = Array(Signal(16, init=self._initial, name=f"count_{queue}") for queue in range(self._config.queues))
        for queue, count in enumerate(counts):
            reserved, given = Signal(16, name=f"reserved_{queue}"), Signal(16, name=f"given_{queue}")
            m.d.comb += [
                port.free[queue].eq(count),
                reserved.eq(Mux(port.reserve & (port.reserve_queue == queue), port.reserve_count, 0)),
                given.eq(Mux(self.give_queue == queue, self.give, 0)),
            ]
            m.d.sync += count.eq(count - reserved + given)
            with m.If(reserved > count):
                m.d.sync += self.overrun.eq(1)
        return m
