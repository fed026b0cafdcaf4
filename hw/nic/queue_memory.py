# SPDX-License-Identifier: BSD-2-Clause
"""State of each queue that no two blocks look at in one cycle."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class QueueMemory(wiring.Component):
    """One word for each queue, in a memory without a reset: a bit for each queue tells whether its word counts, or is
    zero.

    Parameters
    ----------
    shape : of a word
    queues : number of queues

    Members
    -------
    clear : one bit per queue: its word becomes zero, whatever is written in this cycle
    read_queue, value : a queue's word, in the same cycle, before it is written
    write_enable, write_queue, write_value : replace a queue's word
    """

    def __init__(self, shape: ShapeLike, queues: int):
        if not isinstance(queues, int) or isinstance(queues, bool):
            raise TypeError(f"QueueMemory queues must be an integer, not {queues!r}")
        if queues < 1:
            raise ValueError(f"QueueMemory queues must be at least 1, not {queues!r}")
        self._shape = shape
        self._queues = queues
        super().__init__(
            {
                "clear": In(queues),
                "read_queue": In(range(queues)),
                "value": Out(shape),
                "write_enable": In(1),
                "write_queue": In(range(queues)),
                "write_value": In(shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._shape, depth=self._queues, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        written = Signal(self._queues)
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_queue),
            write.data.eq(self.write_value),
            read.addr.eq(self.read_queue),
        ]
        with m.If(written.bit_select(self.read_queue, 1)):
            m.d.comb += self.value.eq(read.data)
        with m.If(self.write_enable):
            m.d.sync += written.bit_select(self.write_queue, 1).eq(1)
        for queue in range(self._queues):
            with m.If(self.clear[queue]):
                m.d.sync += written[queue].eq(0)
        return m
