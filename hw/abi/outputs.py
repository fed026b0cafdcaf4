# SPDX-License-Identifier: BSD-2-Clause
"""What is generated for others from the register description: a C header and an HTML reference."""

from pathlib import Path

from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter

from hw.abi.registers import description

HEADER = "pagewheel_nic.h"
REFERENCE = "registers"


def write_header(queues: int, directory: Path) -> Path:
    """C header of the registers: a structure of the whole map, offsets checked by the compiler, and masks, shifts and
    reset values of all fields, under names that do not depend on ``queues``. Returns its path."""
    path = directory / HEADER
    CHeaderExporter().export(description(queues), str(path), reuse_typedefs=False, instantiate=False)
    return path


def write_reference(queues: int, directory: Path) -> Path:
    """HTML reference of the registers, a folder of its own in ``directory``. Returns its first page."""
    folder = directory / REFERENCE
    HTMLExporter(generate_source_links=False).export(
        description(queues), str(folder), title="Pagewheel NIC registers", footer=""
    )
    return folder / "index.html"
