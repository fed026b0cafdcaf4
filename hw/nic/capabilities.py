# SPDX-License-Identifier: BSD-2-Clause
"""What register CAPABILITIES says about a NIC with given parameters."""

from amaranth.utils import exact_log2

from hw.abi.registers import register_map
from hw.config import NicConfig
from hw.nic.tx.framer import max_descriptors


def capabilities(config: NicConfig) -> int:
    """The register's value."""
    register = register_map(config.queues).port["capabilities"]
    return register.pack(
        queues=config.queues,
        beat_bytes=config.beat_bytes,
        rx_buffer_kib=config.rx_buffer_bytes // 1024,
        tx_buffer_kib=config.tx_buffer_bytes // 1024,
        max_descriptors=exact_log2(max_descriptors(config)),
        steering_rules=config.steering_rules,
        rss=config.rss,
        header_split=config.header_split,
        classify=config.classify,
        tx_offload=config.tx_offload,
        segmentation=config.segmentation,
    )
