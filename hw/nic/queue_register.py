# SPDX-License-Identifier: BSD-2-Clause
"""A block's own copy of one register that every queue pair has."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite


class QueueRegister(wiring.Component):
    """Low bits of a per-queue register, kept in a small memory and read combinationally.

    A write that is broadcast in one cycle reads back from the next. A register that was not written since reset reads
    0.

    Parameters
    ----------
    config : NicConfig
    name : name of one that :class:`hw.nic.interfaces.QueueWrite` tells of
    width : bits kept, from bit 0
    ports : number of read ports

    Members
    -------
    write : QueueWrite, the broadcast of register writes
    reads[i].queue : which queue's register to read
    reads[i].value : its low bits, in the same cycle
    """

    def __init__(self, config: NicConfig, name: str, *, width: int, ports: int = 1):
        broadcast = QueueWrite(config)
        names = [name for name, _ in broadcast.members["at"].shape]
        if name not in names:
            raise ValueError(
                f"Register must be one of a queue pair's that can be written ({', '.join(names)}), not {name!r}"
            )
        if not 1 <= width <= 64:
            raise ValueError(f"Width must be in 1..64 bits, not {width!r}")
        self._config = config
        self._name = name
        self._width = width
        read = wiring.Signature({"queue": In(range(config.queues)), "value": Out(width)})
        super().__init__({"write": In(broadcast), "reads": Out(read).array(ports)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._width, depth=self._config.queues, init=[])
        write = memory.write_port()
        written = Signal(self._config.queues)
        m.d.comb += [
            write.en.eq(self.write.at[self._name]),
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
