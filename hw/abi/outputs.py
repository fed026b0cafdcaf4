# SPDX-License-Identifier: BSD-2-Clause
"""What is generated for others from the register descriptions: C headers and HTML references."""

from pathlib import Path

from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter
from systemrdl.node import AddrmapNode

from hw.abi import iommu_registers
from hw.abi.registers import MAX_FRAME, description

HEADER = "pagewheel_nic.h"
REFERENCE = "registers"
IOMMU_HEADER = "pagewheel_iommu.h"
IOMMU_REFERENCE = "iommu_registers"


def write_header(queues: int, directory: Path, max_frame: int = MAX_FRAME, pools: int = 0) -> Path:
    """C header of the NIC's registers: a structure of the whole map, offsets checked by the compiler, and masks,
    shifts and reset values of all fields, under names that do not depend on ``queues`` and ``pools``; nothing of pools'
    pages where there are none. Returns its path."""
    return _header(description(queues, max_frame, pools), directory / HEADER)


def write_reference(queues: int, directory: Path, max_frame: int = MAX_FRAME, pools: int = 0) -> Path:
    """HTML reference of the NIC's registers, a folder of its own in ``directory``. Returns its first page."""
    return _reference(description(queues, max_frame, pools), directory / REFERENCE, "Pagewheel NIC registers")


def write_iommu_header(directory: Path) -> Path:
    """C header of the IOMMU's registers, as :func:`write_header`. Arrays begin at 0: ``iohpmctr[0]`` is iohpmctr1."""
    return _header(iommu_registers.description(), directory / IOMMU_HEADER)


def write_iommu_reference(directory: Path) -> Path:
    """HTML reference of the IOMMU's registers, as :func:`write_reference`."""
    return _reference(iommu_registers.description(), directory / IOMMU_REFERENCE, "Pagewheel IOMMU registers")


def _header(top: AddrmapNode, path: Path) -> Path:
    CHeaderExporter().export(top, str(path), reuse_typedefs=False, instantiate=False)
    return path


def _reference(top: AddrmapNode, folder: Path, title: str) -> Path:
    HTMLExporter(generate_source_links=False).export(top, str(folder), title=title, footer="")
    return folder / "index.html"
