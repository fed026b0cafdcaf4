# SPDX-License-Identifier: BSD-2-Clause
"""The machine on which offloads are tried, and traffic for it that is made frame by frame."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim.config import preset
from sim.traffic.capture import Captured, write_capture
from sim.traffic.source import CAPTURE

QUEUES = 4
LOAD = "0.25"  #: so that nobody has to drop
_TWO = preset("10g-offload", access_log=True)
MACHINE = replace(_TWO, nic=replace(_TWO.nic, queues=QUEUES))


def captured_traffic(path: Path, frames: Iterable[bytes]) -> dict[str, Any]:
    """Fields of a :class:`sim.traffic.source.Traffic` of these frames, which are written to a capture file."""
    captured = [Captured(number * 1000, frame) for number, frame in enumerate(frames)]
    write_capture(path, captured)
    return {"sizes": CAPTURE, "frames": len(captured), "load": LOAD, "capture": str(path)}
