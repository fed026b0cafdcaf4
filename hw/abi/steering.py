# SPDX-License-Identifier: BSD-2-Clause
"""RSS and exact steering as software sees them: sizes, what can be refused, and where a rule lies in its table."""

from amaranth.lib import crc, enum

RSS_KEY_BYTES = 40
RSS_TABLE_ENTRIES = 128
RSS_TABLE_ROW = 8  #: entries in one register
RULE_BANKS = 4  #: a rule has one place in each
RULE_MESSAGE_BYTES = 12

# Linear, so that hardware is the exclusive or of what single bits give.
_CRC32C = crc.Algorithm(
    crc_width=32,
    polynomial=0x1EDC6F41,
    initial_crc=0,
    reflect_input=True,
    reflect_output=True,
    xor_output=0,
)(data_width=8)


class RuleError(enum.Enum, shape=4):
    """What became of the last write to RULE_COMMAND, read from RULE_STATUS."""

    NONE = 0  #: done
    BUSY = 1  #: the table is still being cleared after a reset; nothing was done
    INDEX = 2  #: no such place; nothing was done
    QUEUE = 3  #: the rule names a queue that does not exist; it was not inserted
    PACKET_TYPE = 4  #: the rule is not for TCP or UDP over IPv4 or IPv6; it was not inserted


def rule_slots(rules: int) -> int:
    """Places in each bank of a table for ``rules`` rules: twice as many in all as rules, so that software finds a place
    for each."""
    return 2 * rules // RULE_BANKS


def rule_message(source: int, destination: int, source_port: int, destination_port: int) -> int:
    """What of a flow decides on its rule's places: the exclusive or of each address's 32-bit words, and the ports, 12
    bytes. All are integers whose lowest byte is the first on the wire."""
    return _fold(source) | _fold(destination) << 32 | source_port << 64 | destination_port << 80


def rule_hash(message: int) -> int:
    """CRC-32C of a :func:`rule_message`, with nothing added at either end; linear in the message's bits."""
    return _CRC32C.compute(message.to_bytes(RULE_MESSAGE_BYTES, "little"))


def rule_places(message: int, rules: int) -> list[int]:
    """The places, one in each bank, where a rule of this message is found: values of RULE_COMMAND.index. Byte *b* of
    the hash gives the place in bank *b*."""
    slots = rule_slots(rules)
    value = rule_hash(message)
    return [bank * slots + (value >> 8 * bank) % slots for bank in range(RULE_BANKS)]


def _fold(address: int) -> int:
    return (address ^ address >> 32 ^ address >> 64 ^ address >> 96) & 0xFFFF_FFFF


def rss_hash(key: bytes, message: bytes) -> int:
    """The Toeplitz hash: for each bit of the message that is set, exclusive or of the 32 bits of the key that begin at
    its place; all in the order of the wire, a byte's highest bit first. Its low 7 bits are the table's index."""
    bits, value = int.from_bytes(key), int.from_bytes(message)
    first = 8 * len(key) - 32
    last = first - 8 * len(message) + 1
    result = 0
    while value:
        lowest = value & -value
        result ^= bits >> last + lowest.bit_length() - 1
        value ^= lowest
    return result & 0xFFFF_FFFF
