# SPDX-License-Identifier: BSD-2-Clause
"""A poll-mode driver under a flood (DPDK's ``testpmd``): ``rxonly``, and forward-mode ``mac``, which sets addresses."""

from collections.abc import Mapping

from driver_model.drivers.strategies.bypass import Bypass
from tests.driver_model.calibration.loop import Replay
from tests.driver_model.calibration.xdp import drop, flooded, send_back

REPLAYS: Mapping[str, Replay] = {
    "DPDK, drop, one core": flooded(drop, Bypass),
    "DPDK, forward, one core": flooded(send_back, Bypass),
}
