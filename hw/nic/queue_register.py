# SPDX-License-Identifier: BSD-2-Clause
"""A block's own copy of one register that every queue pair has."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite


class QueueRegister(wiring.Component):
    """Low bits of a per-queue register, kept in a small memory and read combinationally.

    A write that is broadcast in one cycle reads back from the next. A register that was not written since reset reads
    0.

    Parameters
    ----------
    config : NicConfig
    name : name in ``register_map(...).queue``
    width : bits kept, from bit 0
    ports : number of read ports

    Members
    -------
    write : QueueWrite, the broadcast of register writes
    reads[i].queue : which queue's register to read
    reads[i].value : its low bits, in the same cycle
    """

    def __init__(self, config: NicConfig, name: str, *, width: int, ports: int = 1):
        registers = register_map(config.queues).queue
        if name not in registers:
            raise ValueError(f"Register must be one of a queue pair's ({', '.join(registers)}), not {name!r}")
        if not 1 <= width <= 64:
            raise ValueError(f"Width must be in 1..64 bits, not {width!r}")
        self._config = config
        self._offset = registers[name].offset
        self._width = width
        read = wiring.Signature({"queue": In(range(config.queues)), "value": Out(width)})
        super().__init__({"write": In(QueueWrite(config)), "reads": Out(read).array(ports)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._width, depth=self._config.queues, init=[])
        write = memory.write_port()
        written = Signal(self._config.queues)
        m.d.comb += [
            write.en.eq(self.write.strobe & (self.write.offset == self._offset)),
            write.addr.eq(self.write.queue),
            write.data.eq(self.write.data),
        ]
        with m.If(write.en):
            m.d.sync += written.bit_select(self.write.queue, 1).eq(1)
        for read in self.reads:
            port = memory.read_port(domain="comb")
            m.d.comb += [
                port.addr.eq(read.queue),
                read.value.eq(Mux(written.bit_select(read.queue, 1), port.data, 0)),
            ]
        return m
