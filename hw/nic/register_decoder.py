# SPDX-License-Identifier: BSD-2-Clause
"""What is at a register address, and which rules an access must obey."""

from collections.abc import Mapping

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.registers import WORD_BYTES, Register, register_map
from hw.bus.axi_lite import DATA_WIDTH
from hw.config import NicConfig
from hw.nic.lifecycle import RINGS


def port_registers(config: NicConfig) -> Mapping[str, Register]:
    """Registers of the port that a NIC with these parameters has: all but those of what is not built in."""
    absent = tuple(prefix for prefix, built in (("rss_", config.rss), ("rule_", config.steering_rules)) if not built)
    registers = register_map(config.queues).port.items()
    return {name: register for name, register in registers if not name.startswith(absent)}


def queue_registers(config: NicConfig) -> Mapping[str, Register]:
    """Registers of each queue pair that a NIC with these parameters has."""
    registers = register_map(config.queues).queue.items()
    return {name: register for name, register in registers if config.header_split or name != "rx_header"}


def is_counter(name: str) -> bool:
    """A register that :class:`hw.nic.stats.counters.Stats` holds."""
    return "." in name


def in_table(name: str) -> bool:
    """A row of the RSS indirection table."""
    return name.startswith("rss_table")


def is_shadowed(register: Register) -> bool:
    """A register that reads as it was written, so that :class:`hw.nic.register_shadow.RegisterShadow` can keep it."""
    pulses = any(field.pulse for field in register.fields.values())
    return register.readable and register.writable and not pulses and not in_table(register.name)


_KINDS = ("mapped", "readable", "writable", "counter", "shadowed", "in_table", "in_queue")
_RULES = {f"{ring}_{what}": f"{way}_ring" for way in RINGS for ring in RINGS[way] for what in ("base", "size")} | {
    f"{way}_{what}": f"{way}_{what}" for way in RINGS for what in ("control", "doorbell")
}
_RULES |= {"rx_header": "rx_ring"}


class RegisterDecoder(wiring.Component):
    """Decoder of addresses.

    Ports
    -----
    address : In
        Byte offset in the register map.
    found : Out
        One cycle later. ``mapped``: there is a register, ``readable`` and ``writable`` as the description has it.
        ``counter``, ``in_table``, ``shadowed``: who holds it. ``in_queue``: it is in the page of a queue pair that
        exists. ``rx_ring``, ``rx_control``, ``rx_doorbell`` and likewise ``tx``: what the queue's state must allow.
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
        found, mask = Signal.like(self.found), Signal.like(self.mask)
        m.d.sync += [self.found.eq(found), self.mask.eq(mask)]
        m.d.comb += found.in_queue.eq((page != 0) & (page <= self._map.queues))
        port, queue = self._pages
        with m.If(page == 0):
            self._look_up(m, place, port, found, mask)
        with m.Elif(found.in_queue):
            self._look_up(m, place, queue, found, mask)
        return m

    def _look_up(self, m, place, registers, found, mask):
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
