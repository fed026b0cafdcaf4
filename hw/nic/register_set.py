# SPDX-License-Identifier: BSD-2-Clause
"""Which of the described registers a NIC has, and who holds them."""

from collections.abc import Mapping

from hw.abi.registers import Register, register_map
from hw.config import NicConfig


def port_registers(config: NicConfig) -> Mapping[str, Register]:
    """Registers of the port that a NIC with these parameters has, with their reset values: all but those of what is not
    built in."""
    parts = {"rx_offload": config.classify, "ats_": config.ats, "rss_": config.rss, "rule_": config.steering_rules}
    absent = tuple(prefix for prefix, built in parts.items() if not built)
    registers = register_map(config.queues, config.max_frame).port.items()
    return {name: register for name, register in registers if not name.startswith(absent)}


def queue_registers(config: NicConfig) -> Mapping[str, Register]:
    """Registers of each queue pair that a NIC with these parameters has."""
    parts = {"rx_header": config.header_split, "rx_pool": config.pools, "tx_pools": config.pools}
    registers = register_map(config.queues).queue.items()
    return {name: register for name, register in registers if parts.get(name, True)}


def pool_registers(config: NicConfig) -> Mapping[str, Register]:
    """Registers of each pool that a NIC with these parameters has."""
    return register_map(config.queues, config.max_frame, config.pools).pool


def register_pages(config: NicConfig) -> Mapping[str, Mapping[str, Register]]:
    """Registers of each kind of page that a NIC with these parameters has, in the order of their addresses: of the
    ``port``, of each ``queue`` pair, and where recycling is built in of each ``pool``."""
    pages = {"port": port_registers(config), "queue": queue_registers(config)}
    return pages | ({"pool": pool_registers(config)} if config.pools else {})


def is_counter(name: str) -> bool:
    """A register that :class:`hw.nic.stats.counters.Stats` holds."""
    return "." in name


def in_table(name: str) -> bool:
    """A row of the RSS indirection table."""
    return name.startswith("rss_table")


def pulses(register: Register) -> int:
    """Bits of a register that are high for one cycle where 1 is written to them, and read as 0."""
    return sum(field.mask for field in register.fields.values() if field.pulse)


def is_shadowed(kind: str, register: Register) -> bool:
    """A register of such a page that reads as it was written, but for pulses, and is kept by
    :class:`hw.nic.register_shadow.RegisterShadow`. Those of the port that have pulses are read from their ports."""
    held = kind == "port" and pulses(register)
    return register.readable and register.writable and not held and not in_table(register.name)
