# SPDX-License-Identifier: BSD-2-Clause
"""What register CAPABILITIES says about a NIC with given parameters."""

from hw.abi.registers import register_map
from hw.config import NicConfig


def capabilities(config: NicConfig) -> int:
    """The register's value."""
    register = register_map(config.queues).port["capabilities"]
    return register.pack(
        queues=config.queues,
        beat_bytes=config.beat_bytes,
        rx_buffer_kib=config.rx_buffer_bytes // 1024,
        tx_buffer_kib=config.tx_buffer_bytes // 1024,
        steering_rules=config.steering_rules,
        rss=config.rss,
        header_split=config.header_split,
        classify=config.classify,
        tx_offload=config.tx_offload,
        segmentation=config.segmentation,
    )
