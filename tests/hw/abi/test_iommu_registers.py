# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's registers are where the specification has them, with its fields."""

import re
import shutil
import subprocess

import pytest

from hw.abi.iommu_registers import iommu_registers
from hw.abi.outputs import write_iommu_header, write_iommu_reference

#: Name: (offset, bytes), from the specification's table of registers.
LAYOUT = {
    "capabilities": (0, 8),
    "fctl": (8, 4),
    "ddtp": (16, 8),
    "cqb": (24, 8),
    "cqh": (32, 4),
    "cqt": (36, 4),
    "fqb": (40, 8),
    "fqh": (48, 4),
    "fqt": (52, 4),
    "pqb": (56, 8),
    "pqh": (64, 4),
    "pqt": (68, 4),
    "cqcsr": (72, 4),
    "fqcsr": (76, 4),
    "pqcsr": (80, 4),
    "ipsr": (84, 4),
    "iocountovf": (88, 4),
    "iocountinh": (92, 4),
    "iohpmcycles": (96, 8),
    **{f"iohpmctr{n}": (96 + 8 * n, 8) for n in range(1, 32)},
    **{f"iohpmevt{n}": (344 + 8 * n, 8) for n in range(1, 32)},
    "tr_req_iova": (600, 8),
    "tr_req_ctl": (608, 8),
    "tr_response": (616, 8),
    "icvec": (760, 8),
}


def test_registers_are_where_the_specification_has_them():
    assert {name: (r.offset, r.width // 8) for name, r in iommu_registers().items()} == LAYOUT


@pytest.mark.parametrize(
    ("name", "field", "lsb", "width"),
    [
        ("capabilities", "igs", 28, 2),
        ("capabilities", "pas", 32, 6),
        ("capabilities", "s", 43, 1),
        ("ddtp", "ppn", 10, 44),
        ("cqb", "log2sz_1", 0, 5),
        ("cqcsr", "fence_w_ip", 11, 1),
        ("fqcsr", "busy", 17, 1),
        ("ipsr", "pmip", 2, 1),
        ("iohpmevt31", "did_gscid", 36, 24),
        ("iohpmevt1", "of", 63, 1),
        ("tr_req_ctl", "did", 40, 24),
        ("tr_response", "ppn", 10, 44),
        ("icvec", "piv", 12, 4),
    ],
)
def test_fields_are_where_the_specification_has_them(name, field, lsb, width):
    found = iommu_registers()[name].fields[field]
    assert (found.lsb, found.width) == (lsb, width)


def test_registers_pack_and_unpack():
    evt = iommu_registers()["iohpmevt2"]
    word = evt.pack(eventid=4, did_gscid=0x123456, dv_gscv=1)
    assert word == 1 << 61 | 0x123456 << 36 | 4
    assert evt.get(word, "did_gscid") == 0x123456


def test_header_compiles_and_places_registers(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.fail("g++ is needed to check the header: apt install g++")
    header = write_iommu_header(tmp_path)
    checks = []
    for name, register in iommu_registers().items():
        array = re.fullmatch(r"(iohpm(?:ctr|evt))(\d+)", name)
        member = f"{array[1]}[{int(array[2]) - 1}]" if array else name
        checks.append(f'static_assert(offsetof(iommu_t, {member}) == {register.offset}, "{name}");')
    source = tmp_path / "check.cpp"
    source.write_text(f'#include <cstddef>\n#include "{header.name}"\n' + "\n".join(checks))
    subprocess.run([compiler, "-fsyntax-only", "-Wall", "-Wno-invalid-offsetof", str(source)], check=True)


def test_reference_is_a_page_that_names_the_map(tmp_path):
    assert "Pagewheel IOMMU" in write_iommu_reference(tmp_path).read_text()
