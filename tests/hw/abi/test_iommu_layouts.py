# SPDX-License-Identifier: BSD-2-Clause
"""What the IOMMU and software exchange in memory has its fields at the specification's bits."""

import pytest
from amaranth.lib import data

from hw.abi.iommu import (
    AtsCommand,
    DeviceContext,
    DirectoryCommand,
    DirectoryEntry,
    FaultRecord,
    FenceCommand,
    FirstStage,
    InvalidateCommand,
    PageTableEntry,
    SecondStage,
    TranslationAttributes,
    TranslationControl,
)

COMMAND = "opcode 6:0, func3 9:7"

#: Layout: bits in all, and its fields without the reserved ones.
LAYOUTS = {
    DirectoryEntry: (64, "v 0, ppn 53:10"),
    DeviceContext: (256, "tc 63:0, iohgatp 127:64, ta 191:128, fsc 255:192"),
    TranslationControl: (
        64,
        "v 0, en_ats 1, en_pri 2, t2gpa 3, dtf 4, pdtv 5, prpr 6, gade 7, sade 8, dpe 9, sbe 10, sxl 11, custom 31:24",
    ),
    SecondStage: (64, "ppn 43:0, gscid 59:44, mode 63:60"),
    TranslationAttributes: (64, "pscid 31:12"),
    FirstStage: (64, "ppn 43:0, mode 63:60"),
    PageTableEntry: (64, "v 0, r 1, w 2, x 3, u 4, g 5, a 6, d 7, rsw 9:8, ppn 53:10, pbmt 62:61, n 63"),
    InvalidateCommand: (
        128,
        f"{COMMAND}, av 10, pscid 31:12, pscv 32, gv 33, nl 34, gscid 59:44, s 73, address 125:74",
    ),
    FenceCommand: (128, f"{COMMAND}, av 10, wsi 11, pr 12, pw 13, data 63:32, address 125:64"),
    DirectoryCommand: (128, f"{COMMAND}, pid 31:12, dv 33, did 63:40"),
    AtsCommand: (128, f"{COMMAND}, pid 31:12, pv 32, dsv 33, rid 55:40, dseg 63:56, payload 127:64"),
    FaultRecord: (
        256,
        "cause 11:0, pid 31:12, pv 32, priv 33, ttyp 39:34, did 63:40, custom 95:64, iotval 191:128, iotval2 255:192",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_fields_are_where_the_specification_has_them(layout):
    size, fields = LAYOUTS[layout]
    found = [
        f"{name} {field.offset}" if field.width == 1 else f"{name} {field.offset + field.width - 1}:{field.offset}"
        for name, field in data.Layout.cast(layout)
        if not name.startswith("reserved")
    ]
    assert ", ".join(found) == fields
    assert data.Layout.cast(layout).size == size
