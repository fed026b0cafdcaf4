# SPDX-License-Identifier: BSD-2-Clause
"""Where each buffer of a pool lies."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.recycle.interfaces import BufferName


class PoolEntry(data.Struct):
    """A buffer: the IOVA of its first byte, and how many it has."""

    address: 64
    length: 16


class TableWrite(wiring.Signature):
    """A buffer joins a pool: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "buffer": Out(BufferName(config)), "entry": Out(PoolEntry)})


class PoolTable(wiring.Component):
    """A memory of all buffers of all pools. An entry is written once, when its buffer joins; what no buffer has written
    must not be looked up.

    Members
    -------
    write : counts for buffers that are looked up from the next cycle on
    buffer : to be looked up, one a cycle
    entry : of the one of two cycles before
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {"write": In(TableWrite(config)), "buffer": In(BufferName(config)), "entry": Out(PoolEntry)},
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._config.pools * self._config.pool_buffers
        m.submodules.entries = entries = memory.Memory(shape=PoolEntry, depth=depth, init=[], attrs={"no_rw_check": 1})
        write, read = entries.write_port(), entries.read_port()
        m.d.comb += [
            write.en.eq(self.write.strobe),
            write.addr.eq(place(self.write.buffer)),
            write.data.eq(self.write.entry),
            read.addr.eq(place(self.buffer)),
            self.entry.eq(entry := Signal(PoolEntry, reset_less=True)),
        ]
        m.d.sync += entry.eq(read.data)
        return m


def place(buffer: data.View) -> Cat:
    """Of a buffer (:class:`BufferName`) among those of all pools."""
    return Cat(buffer.id, buffer.pool)
