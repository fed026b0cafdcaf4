# SPDX-License-Identifier: BSD-2-Clause
"""What software sets for frames that are received, and what comes of it for each of them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from hw.abi.registers import RegisterMap
from hw.abi.steering import RSS_KEY_BYTES, RSS_TABLE_ENTRIES, RSS_TABLE_ROW
from tests.hw.nic.rx.flows import SUITE_KEY, Flow
from tests.hw.nic.rx.reference import Expected

ADDRESSES = ("ipv4", "ipv6")
HASH_TYPES = (*ADDRESSES, "tcp_ipv4", "udp_ipv4", "tcp_ipv6", "udp_ipv6")
WORD_BYTES = 8


@dataclass(frozen=True)
class Settings:
    """``table``: a queue for each value of the hash's low bits; ``types``: fields of register RSS_TYPES."""

    key: bytes
    types: tuple[str, ...]
    table: tuple[int, ...]
    default_queue: int
    min_length: int
    max_length: int
    strips: bool = False  #: C-VLAN tags are taken out

    @classmethod
    def random(cls, rng: random.Random, queues: int, max_frame: int) -> "Settings":
        """For a NIC of so many queues that takes frames of that length at most."""
        return cls(
            key=rng.randbytes(RSS_KEY_BYTES),
            types=tuple(name for name in HASH_TYPES if rng.random() < 0.6),
            table=tuple(rng.randrange(queues) for _ in range(RSS_TABLE_ENTRIES)),
            default_queue=rng.randrange(queues),
            min_length=rng.choice((1, 15, 60)),
            max_length=rng.choice((max_frame, max_frame, 1514)),
            strips=rng.random() < 0.5,
        )

    @classmethod
    def published(cls, queues: int, *, ports: bool) -> "Settings":
        """Those of the published hashes, with ports or without."""
        table = tuple(place % queues for place in range(RSS_TABLE_ENTRIES))
        return cls(SUITE_KEY, HASH_TYPES if ports else ADDRESSES, table, 0, 60, 1514)

    def hash(self, expected: Expected) -> int | None:
        """Of a frame, None if it has none."""
        flow = _flow(expected)
        return None if flow is None else flow.hash(self.key, self.types)

    def hash_ports(self, expected: Expected) -> bool:
        """Whether that is of ports too."""
        flow = _flow(expected)
        return flow is not None and flow.hash_ports(self.types)

    def queue(self, rss_hash: int | None) -> int:
        """Of a frame with this hash."""
        return self.default_queue if rss_hash is None else self.table[rss_hash % RSS_TABLE_ENTRIES]

    def writes(self, registers: RegisterMap) -> Iterator[tuple[int, int]]:
        """Offsets and values of the registers that set all this, while nothing is received."""
        port = registers.port
        yield port["rss_types"].offset, 0
        for start in range(0, RSS_KEY_BYTES, WORD_BYTES):
            word = int.from_bytes(self.key[start : start + WORD_BYTES], "little")
            yield port[f"rss_key{start // WORD_BYTES}"].offset, word
        for start in range(0, RSS_TABLE_ENTRIES, RSS_TABLE_ROW):
            row = port[f"rss_table{start // RSS_TABLE_ROW}"]
            yield row.offset, row.pack(**{f"queue{n}": self.table[start + n] for n in range(RSS_TABLE_ROW)})
        yield port["rss_types"].offset, port["rss_types"].pack(**dict.fromkeys(self.types, 1))
        yield port["steering"].offset, port["steering"].pack(default_queue=self.default_queue)
        limits = port["frame_limits"].pack(min_length=self.min_length, max_length=self.max_length)
        yield port["frame_limits"].offset, limits
        yield port["rx_offload"].offset, port["rx_offload"].pack(vlan_strip=self.strips)


def _flow(expected: Expected) -> Flow | None:
    if expected.addresses is None:
        return None
    ports = expected.ports or (bytes(2), bytes(2))
    numbers = (int.from_bytes(port, "big") for port in ports)
    return Flow(*expected.addresses, *numbers, expected.network, expected.transport)
