# SPDX-License-Identifier: BSD-2-Clause
"""Verilog export of the NIC, with AXI ports and without anything of the simulation."""

import os
from pathlib import Path

from amaranth.back import verilog

from hw.config import NicConfig
from hw.nic.nic import Nic

TOP = "pagewheel_nic"


def export(config: NicConfig, folder: Path) -> list[Path]:
    """Write the NIC as ``pagewheel_nic.v``; returns the files written.

    Ports are those of :class:`hw.nic.nic.Nic`, flattened with double underscores. The same configuration gives the same
    bytes where PYTHONHASHSEED is fixed.

    Raises ``ValueError`` for a configuration with simulation-only trace points.
    """
    if config.serial_width:
        raise ValueError(f"Verilog is exported without serial numbers: serial_width must be 0, not {config.serial_width!r}")
    text = verilog.convert(Nic(config), name=TOP, emit_src=False, strip_internal_attrs=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{TOP}.v"
    part = folder / f".{TOP}.{os.getpid()}.part"
    part.write_text(text)
    part.replace(path)
    return [path]
