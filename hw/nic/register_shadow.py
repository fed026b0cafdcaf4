# SPDX-License-Identifier: BSD-2-Clause
"""What software wrote to the registers that it can read back, in one memory."""

from types import MappingProxyType

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.registers import WORD_BYTES, register_map
from hw.bus.axi_lite import DATA_WIDTH
from hw.config import NicConfig
from hw.nic.register_set import is_shadowed, register_pages

_ROWS = MappingProxyType({"port": 32, "queue": 16, "pool": 8})  #: of each page, by its kind
_GROUP = 16  #: flags


class RegisterShadow(wiring.Component):
    """Memory of registers, of the port, of each queue pair, and of each pool.

    Ports
    -----
    address : In
        A register's.
    known, value : Out
        What was written to it, two cycles later, three where pools are built in; nothing if not ``known``: then it was
        not written since reset.
    write, data : In
        Write to the register whose address was there in the cycle before, or with pools in the two before. In that
        cycle nothing is read.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "address": In(config.mmio_addr_width),
                "known": Out(1),
                "value": Out(DATA_WIDTH),
                "write": In(1),
                "data": In(DATA_WIDTH),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        pages = {"port": 1, "queue": self._config.queues, "pool": self._config.pools}
        depth = sum(_ROWS[kind] * count for kind, count in pages.items())
        m.submodules.memory = memory = Memory(shape=DATA_WIDTH, depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        row, written = Signal(range(depth)), Signal(depth)
        # Block RAM takes so long that nothing but a register can follow it within its cycle, not even a reset.
        value = Signal(DATA_WIDTH, reset_less=True)

        place = self.address[exact_log2(WORD_BYTES) :]
        page = self.address[exact_log2(register_map(self._config.queues).queue_stride) :]
        rows = {kind: self._row_in_page(m, kind, place) for kind in register_pages(self._config)}
        beyond_port = Cat(rows["queue"], page + _ROWS["port"] // _ROWS["queue"] - 1)
        if self._config.pools:
            first_pool = 1 + self._config.queues
            rows_before = _ROWS["port"] + _ROWS["queue"] * self._config.queues
            in_pool = Cat(rows["pool"], page + rows_before // _ROWS["pool"] - first_pool)
            beyond_port = Mux(page >= first_pool, in_pool, beyond_port)
        # With three kinds of pages it takes a cycle to know which row it is.
        m.d["sync" if self._config.pools else "comb"] += read.addr.eq(Mux(page == 0, rows["port"], beyond_port))
        m.d.comb += [
            read.en.eq(~self.write),
            write.en.eq(self.write),
            write.addr.eq(row),
            write.data.eq(self.data),
            self.value.eq(value),
        ]
        # One of so many flags takes two cycles, as the word does: of each group, then of the groups.
        groups = [written[start : start + _GROUP] for start in range(0, depth, _GROUP)]
        candidates = Signal(len(groups))
        m.d.sync += [
            row.eq(read.addr),
            value.eq(read.data),
            candidates.eq(Cat(group.bit_select(read.addr[: exact_log2(_GROUP)], 1) for group in groups)),
            self.known.eq(candidates.bit_select(row[exact_log2(_GROUP) :], 1)),
        ]
        with m.If(self.write):
            m.d.sync += written.eq(written | (Const(1, depth) << row))
        return m

    def _row_in_page(self, m, kind, place):
        """Row of a register within its page's: that of its place, where there is one, otherwise one that is free."""
        kept = [
            register.offset // WORD_BYTES
            for register in register_pages(self._config)[kind].values()
            if is_shadowed(kind, register)
        ]
        row = Signal(range(_ROWS[kind]), name=f"row_in_{kind}")
        free = sorted(set(range(_ROWS[kind])) - set(kept))
        m.d.comb += row.eq(place)
        with m.Switch(place[: max(kept).bit_length()]):
            for beyond, instead in zip((known for known in kept if known >= _ROWS[kind]), free):
                with m.Case(beyond):
                    m.d.comb += row.eq(instead)
        return row
