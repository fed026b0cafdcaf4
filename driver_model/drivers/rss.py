# SPDX-License-Identifier: BSD-2-Clause
"""Receive-side scaling: key, indirection table and hash types, as ``ethtool -x``, ``-X`` and ``-N … rx-flow-hash`` show
and set them."""

import errno
from collections.abc import Sequence
from enum import Enum, IntFlag

from driver_model.cpu.core import Core
from hw.abi.registers import WORD_BYTES, RegisterMap
from hw.abi.steering import RSS_KEY_BYTES, RSS_TABLE_ENTRIES, RSS_TABLE_ROW

#: That of Microsoft's "Verifying the RSS Hash Calculation". Linux's ``netdev_rss_key_fill`` takes random bytes, with
#: which no two runs would be the same.
DEFAULT_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
#: TCP and UDP by addresses and ports, all else of IP by addresses. Fragments of UDP may so take another queue than its
#: whole packets, which is why some drivers begin with addresses alone.
DEFAULT_TYPES = frozenset(("ipv4", "tcp_ipv4", "udp_ipv4", "ipv6", "tcp_ipv6", "udp_ipv6"))


class Rxh(IntFlag):
    """``RXH_*`` of ``linux/ethtool.h``, with their values: what of a packet is hashed."""

    IP_SRC = 1 << 4
    IP_DST = 1 << 5
    L4_B_0_1 = 1 << 6  #: source port
    L4_B_2_3 = 1 << 7  #: destination port


ADDRESSES = Rxh.IP_SRC | Rxh.IP_DST
PORTS = Rxh.L4_B_0_1 | Rxh.L4_B_2_3


class FlowType(Enum):
    """``*_FLOW`` of ``linux/ethtool.h``: kinds of packets, by the hash types with ports and without that fit them."""

    TCP_V4 = ("tcp_ipv4", "ipv4")
    UDP_V4 = ("udp_ipv4", "ipv4")
    IPV4 = (None, "ipv4")
    TCP_V6 = ("tcp_ipv6", "ipv6")
    UDP_V6 = ("udp_ipv6", "ipv6")
    IPV6 = (None, "ipv6")


def ethtool_rxfh_indir_default(index: int, rings: int) -> int:
    """The queue of an entry of the table, where nobody has asked for another."""
    return index % rings


class Rss:
    """RSS of a device that has it. Methods are called in a process on the core.

    Parameters
    ----------
    core : who talks to the device
    registers : the device's map
    queues : queue pairs in use, over which packets are spread evenly at first

    Attributes
    ----------
    key, table : 40 bytes, and the queue of each of the 128 values of the hash's low 7 bits
    """

    def __init__(self, core: Core, registers: RegisterMap, queues: int) -> None:
        self._core = core
        self._registers = registers
        self._queues = queues
        self.key = DEFAULT_KEY
        self.table = tuple(ethtool_rxfh_indir_default(index, queues) for index in range(RSS_TABLE_ENTRIES))
        self._types = DEFAULT_TYPES

    def write(self) -> None:
        """Tell the device everything."""
        # A packet between the old key and the new one would have neither's hash, so none is hashed meanwhile.
        self._write_types(frozenset())
        for number, start in enumerate(range(0, RSS_KEY_BYTES, WORD_BYTES)):
            word = int.from_bytes(self.key[start : start + WORD_BYTES], "little")
            self._core.mmio_write(self._registers.address(f"rss_key{number}"), word)
        self._write_table()
        self._write_types(self._types)

    def set_rxfh(self, *, indir: Sequence[int] | None = None, key: bytes | None = None) -> None:
        """``ethtool -X``: another table, another key, or both. With another table alone, each packet finds a queue by
        the old or by the new one. Raises ``OSError`` EINVAL for what cannot be."""
        if indir is not None:
            if len(indir) != RSS_TABLE_ENTRIES:
                raise OSError(errno.EINVAL, f"The table has {RSS_TABLE_ENTRIES} entries, not {len(indir)}")
            for queue in indir:
                if not 0 <= queue < self._queues:
                    raise OSError(errno.EINVAL, f"Queues are 0..{self._queues - 1}, not {queue!r}")
        if key is not None and len(key) != RSS_KEY_BYTES:
            raise OSError(errno.EINVAL, f"The key has {RSS_KEY_BYTES} bytes, not {len(key)}")
        if indir is not None:
            self.table = tuple(indir)
        if key is not None:
            self.key = bytes(key)
            self.write()
        elif indir is not None:
            self._write_table()

    def get_rxfh_fields(self, kind: FlowType) -> Rxh:
        """What of such packets is hashed; nothing of those that are not spread."""
        return _fields(kind, self._types)

    def set_rxfh_fields(self, kind: FlowType, fields: Rxh) -> None:
        """Hash this of such packets, and of all others what is hashed now. Raises ``OSError`` EINVAL for what the
        device cannot: other than nothing, both addresses, or both addresses and both ports; TCP and UDP by addresses
        where all else of IP is not hashed by them, or the reverse; and all else of IP differently where TCP or UDP is
        hashed by addresses, for it would change with it."""
        with_ports, plain = kind.value
        types = self._types - {with_ports or plain}
        if fields == (ADDRESSES | PORTS if with_ports else ADDRESSES):
            types |= {with_ports or plain}
        if _fields(kind, types) != fields:
            raise OSError(errno.EINVAL, f"{kind.name} cannot be hashed by {fields!r} with {', '.join(sorted(types))}")
        for other in FlowType:
            if other is not kind and _fields(other, types) != _fields(other, self._types):
                raise OSError(errno.EINVAL, f"{other.name} is hashed as {kind.name} is, and would change with it")
        self._types = types
        self._write_types(types)

    def _write_types(self, types: frozenset[str]) -> None:
        register = self._registers.port["rss_types"]
        self._core.mmio_write(register.offset, register.pack(**dict.fromkeys(types, 1)))

    def _write_table(self) -> None:
        for row, start in enumerate(range(0, RSS_TABLE_ENTRIES, RSS_TABLE_ROW)):
            word = int.from_bytes(bytes(self.table[start : start + RSS_TABLE_ROW]), "little")
            self._core.mmio_write(self._registers.address(f"rss_table{row}"), word)


def _fields(kind: FlowType, types: frozenset[str]) -> Rxh:
    with_ports, plain = kind.value
    if with_ports in types:
        return ADDRESSES | PORTS
    return ADDRESSES if plain in types else Rxh(0)
