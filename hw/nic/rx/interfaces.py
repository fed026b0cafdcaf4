# SPDX-License-Identifier: BSD-2-Clause
"""Registers of what RX does with packets beyond delivering them, between the register block and RX."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import NetworkLayer, TransportLayer
from hw.abi.steering import RSS_KEY_BYTES, RSS_TABLE_ENTRIES, RSS_TABLE_ROW, RuleError


class HeaderSetting(data.Struct):
    """Low bits of register RX_HEADER."""

    enable: 1
    size: 2


class HeaderArea(data.Struct):
    """Register RX_HEADER."""

    setting: HeaderSetting
    below: 3
    address: 58


class HashTypes(data.Struct):
    """Register RSS_TYPES."""

    ipv4: 1
    tcp_ipv4: 1
    udp_ipv4: 1
    ipv6: 1
    tcp_ipv6: 1
    udp_ipv6: 1


class IndirectionPort(wiring.Signature):
    """Software's access to the RSS indirection table, seen from the registers: eight entries at once, 8 bits each.

    With ``write``, ``data`` replaces the ``row``; every entry names a queue that exists. ``value`` is the row that was
    asked for in the cycle before.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "row": Out(range(RSS_TABLE_ENTRIES // RSS_TABLE_ROW)),
                "write": Out(1),
                "data": Out(8 * RSS_TABLE_ROW),
                "value": In(8 * RSS_TABLE_ROW),
            }
        )


class RssControl(wiring.Signature):
    """Registers of receive-side scaling: the types of packets that are hashed, the key, its first byte lowest, and the
    indirection table."""

    def __init__(self) -> None:
        super().__init__({"types": Out(HashTypes), "key": Out(8 * RSS_KEY_BYTES), "table": Out(IndirectionPort())})


class RuleWindow(wiring.Signature):
    """Registers of exact steering, seen from them: the rule that is to be inserted, and the command, one cycle of
    ``insert`` or ``remove`` (``insert`` counts where both are set). ``busy`` and ``error`` are register RULE_STATUS;
    ``error`` is about the last command, from the cycle after it on."""

    def __init__(self) -> None:
        super().__init__(
            {
                "source": Out(128),
                "destination": Out(128),
                "source_port": Out(16),
                "destination_port": Out(16),
                "network": Out(NetworkLayer),
                "transport": Out(TransportLayer),
                "queue": Out(8),
                "index": Out(16),
                "insert": Out(1),
                "remove": Out(1),
                "busy": In(1),
                "error": In(RuleError),
            }
        )
