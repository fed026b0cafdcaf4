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
from hw.nic.register_set import in_table, is_counter, is_shadowed, port_registers, queue_registers

_KINDS = ("mapped", "readable", "writable", "counter", "shadowed", "in_table")
_RULES = {f"{ring}_{what}": f"{way}_ring" for way in RINGS for ring in RINGS[way] for what in ("base", "size")}
_RULES |= {"rx_header": "rx_ring"}


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
        ``at_NAME``: it is that register, of those that are neither counters nor in the table.
    mask : Out
        With it: the bits that exist.
    """

    def __init__(self, config: NicConfig):
        self._map = register_map(config.queues)
        self._pages = port_registers(config), queue_registers(config)
        singles = [f"at_{name}" for page in self._pages for name in page if not is_counter(name) and not in_table(name)]
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
        page_bits = exact_log2(self._map.queue_stride)
        place = self.address[exact_log2(WORD_BYTES) : page_bits]
        page = self.address[page_bits:]
        # Looked up in both kinds of pages in one cycle, in the next it is known which counts.
        found, mask = 0, 0
        for registers, is_here in zip(self._pages, (page == 0, (page != 0) & (page <= self._map.queues)), strict=True):
            there, bits = self._look_up(m, place, registers)
            here = Signal()
            m.d.sync += here.eq(is_here)
            found |= Mux(here, there.as_value(), 0)
            mask |= Mux(here, bits, 0)
        m.d.sync += [self.found.eq(found), self.mask.eq(mask)]
        return m

    def _look_up(self, m, place, registers):
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
                        found.shadowed.eq(is_shadowed(register)),
                        mask.eq(register.mask),
                    ]
                    if not is_counter(name) and not in_table(name):
                        m.d.comb += found[f"at_{name}"].eq(1)
                    if register.name in _RULES:
                        m.d.comb += found[_RULES[register.name]].eq(1)
        return found_then, mask_then
