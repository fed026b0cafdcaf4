# SPDX-License-Identifier: BSD-2-Clause
"""What registers CAPABILITIES and POOL_CAPABILITIES say about a NIC with given parameters."""

from amaranth.utils import exact_log2

from hw.abi.registers import register_map
from hw.config import NicConfig
from hw.nic.tx.framer import max_descriptors


def capabilities(config: NicConfig) -> int:
    """Value of register CAPABILITIES."""
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


def pool_capabilities(config: NicConfig) -> int:
    """Value of register POOL_CAPABILITIES."""
    register = register_map(config.queues).port["pool_capabilities"]
    if not config.pools:
        return 0
    id_bits = exact_log2(config.pool_buffers)
    return register.pack(pools=config.pools, id_bits=id_bits, ahead=config.recycle_ahead, ats=config.ats)
