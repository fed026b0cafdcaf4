# SPDX-License-Identifier: BSD-2-Clause
"""The machine whose offloads are compared: a NIC with all that it can know of packets, of any width."""

from hw.config import NicConfig
from sim.config import MachineConfig
from sim.host.dram_config import DramConfig
from sim.host.link_config import LINK_PRESETS

QUEUES = 4
WIDEST, WIDEST_MBPS = 512, 100_000


def machine(width: int, *, stalls: bool = False) -> MachineConfig:
    """A NIC of this datapath width on a chip, whose wire carries 100 Gbit/s at 512 bits and as much less as it is
    narrower; streams can be held back or not."""
    nic = NicConfig(
        data_width=width,
        clock_khz=250_000,
        queues=QUEUES,
        classify=True,
        rss=True,
        tx_offload=True,
        segmentation=True,
    )
    return MachineConfig(
        nic=nic,
        link=LINK_PRESETS["on-chip"],
        dram=DramConfig(bandwidth_megabytes=76_800),
        host_width=width,
        mac_mbps=WIDEST_MBPS * width // WIDEST,
        stalls=stalls,
    )
