# SPDX-License-Identifier: BSD-2-Clause
"""A memory of ring entries that moves as many in a cycle as a bus beat holds."""

from amaranth.hdl import Array, Module
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.rings import ENTRY_BYTES


class EntryBanks(wiring.Component):
    """``depth`` entries in ``wide`` banks: consecutive entries, beginning anywhere, in one access.

    Entry i lies in bank ``i % wide``. Entries of an access beyond ``depth`` mean nothing. Reads are combinational; a
    write is seen from the next cycle. Nothing is cleared by a reset.

    Parameters
    ----------
    depth : a multiple of ``wide``
    wide : entries of an access: 1, 2 or 4

    Members
    -------
    write_index, write_count, write_entries : store the first ``write_count`` entries at ``write_index``; 0 stores none
    read_index, read_entries : the ``wide`` entries from ``read_index``
    """

    def __init__(self, *, depth: int, wide: int):
        if wide not in (1, 2, 4):
            raise ValueError(f"An access must be 1, 2 or 4 entries wide, not {wide!r}")
        if depth < wide or depth % wide:
            raise ValueError(f"Depth must be a positive multiple of {wide} entries, not {depth!r}")
        self._depth, self._wide = depth, wide
        entries = data.ArrayLayout(8 * ENTRY_BYTES, wide)
        super().__init__(
            {
                "write_index": In(range(depth)),
                "write_count": In(range(wide + 1)),
                "write_entries": In(entries),
                "read_index": In(range(depth)),
                "read_entries": Out(entries),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        bits = exact_log2(self._wide)
        banks = []
        for bank in range(self._wide):
            memory = Memory(shape=8 * ENTRY_BYTES, depth=self._depth // self._wide, init=[])
            m.submodules[f"bank_{bank}"] = memory
            write, read = memory.write_port(), memory.read_port(domain="comb")
            # How far into the access this bank's entry is.
            write_step = (bank - self.write_index[:bits])[:bits]
            read_step = (bank - self.read_index[:bits])[:bits]
            m.d.comb += [
                write.en.eq(write_step < self.write_count),
                write.addr.eq((self.write_index + write_step)[bits:]),
                write.data.eq(self.write_entries[write_step] if bits else self.write_entries[0]),
                read.addr.eq((self.read_index + read_step)[bits:]),
            ]
            banks.append(read.data)
        for step in range(self._wide):
            m.d.comb += self.read_entries[step].eq(Array(banks)[(self.read_index + step)[:bits]] if bits else banks[0])
        return m
