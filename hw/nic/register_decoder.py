# SPDX-License-Identifier: BSD-2-Clause
"""What is at a register address, and which rules an access must obey."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.registers import WORD_BYTES, register_map
from hw.bus.axi_lite import DATA_WIDTH
from hw.config import NicConfig
from hw.nic.lifecycle import RINGS
from hw.nic.register_set import in_table, is_counter, is_shadowed, register_pages

_KINDS = ("mapped", "readable", "writable", "counter", "shadowed", "in_table")
_RULES = {f"{ring}_{what}": f"{way}_ring" for way in RINGS for ring in RINGS[way] for what in ("base", "size")}
_RULES |= {"rx_header": "rx_ring", "rx_pool": "rx_ring", "tx_pools": "tx_ring"}


def strobe(kind: str, name: str) -> str:
    """What :class:`RegisterDecoder` calls it that an address is this register's, of such a page."""
    return f"pool_{name}" if kind == "pool" else f"at_{name}"


class RegisterDecoder(wiring.Component):
    """Decoder of addresses.

    Ports
    -----
    address : In
        Byte offset in the register map.
    found : Out
        Two cycles later. ``mapped``: there is a register, ``readable`` and ``writable`` as the description has it.
        ``counter``, ``in_table``, ``shadowed``: who holds it. ``rx_ring``, ``tx_ring``: what only changes while
        the direction is DISABLED.
        ``at_NAME``, ``pool_NAME``: it is that register of the port or of a queue pair, or of a pool, of those that
        are neither counters nor in the table.
    mask : Out
        With it: the bits that exist.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._pages = register_pages(config)
        singles = [
            strobe(kind, name)
            for kind, registers in self._pages.items()
            for name in registers
            if not is_counter(name) and not in_table(name)
        ]
        fields = (*_KINDS, *dict.fromkeys(_RULES.values()), *singles)
        super().__init__(
            {
                "address": In(config.mmio_addr_width),
                "found": Out(data.StructLayout(dict.fromkeys(fields, 1))),
                "mask": Out(DATA_WIDTH),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        queues, pools = self._config.queues, self._config.pools
        page_bits = exact_log2(register_map(queues).queue_stride)
        place = self.address[exact_log2(WORD_BYTES) : page_bits]
        page = self.address[page_bits:]
        is_here = {
            "port": page == 0,
            "queue": (page != 0) & (page <= queues),
            "pool": (page > queues) & (page <= queues + pools),
        }
        # Looked up in all kinds of pages in one cycle, in the next it is known which counts.
        found, mask = 0, 0
        for kind, registers in self._pages.items():
            there, bits = self._look_up(m, place, kind, registers)
            here = Signal(name=f"in_{kind}")
            m.d.sync += here.eq(is_here[kind])
            found |= Mux(here, there.as_value(), 0)
            mask |= Mux(here, bits, 0)
        m.d.sync += [self.found.eq(found), self.mask.eq(mask)]
        return m

    def _look_up(self, m, place, kind, registers):
        """What is at a place of such a page, a cycle later."""
        found, mask = Signal.like(self.found), Signal.like(self.mask)
        found_then, mask_then = Signal.like(self.found), Signal.like(self.mask)
        m.d.sync += [found_then.eq(found), mask_then.eq(mask)]
        with m.Switch(place):
            for name, register in registers.items():
                with m.Case(register.offset // WORD_BYTES):
                    m.d.comb += [
                        found.mapped.eq(1),
                        found.readable.eq(register.readable),
                        found.writable.eq(register.writable),
                        found.counter.eq(is_counter(name)),
                        found.in_table.eq(in_table(name)),
                        found.shadowed.eq(is_shadowed(kind, register)),
                        mask.eq(register.mask),
                    ]
                    if not is_counter(name) and not in_table(name):
                        m.d.comb += found[strobe(kind, name)].eq(1)
                    if register.name in _RULES:
                        m.d.comb += found[_RULES[register.name]].eq(1)
        return found_then, mask_then
