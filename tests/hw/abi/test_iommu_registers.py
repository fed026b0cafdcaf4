# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's registers are where the specification has them, with its fields."""

import re
import shutil
import subprocess

import pytest
from systemrdl.node import RegNode
from systemrdl.rdltypes import OnWriteType

from hw.abi.iommu_registers import description, iommu_registers
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

#: Register: its fields with their bits, and how software may write them: from the specification, but WARL is RW where
#: it is not fixed, and what never changes here is RO. Reserved bits, and features that are not built, are left out.
FIELDS = {
    "capabilities": [
        "version 7:0 RO",
        "sv39 9 RO",
        "sv48 10 RO",
        "sv39x4 17 RO",
        "sv48x4 18 RO",
        "msi_flat 22 RO",
        "amo_hwad 24 RO",
        "ats 25 RO",
        "t2gpa 26 RO",
        "end 27 RO",
        "igs 29:28 RO",
        "hpm 30 RO",
        "dbg 31 RO",
        "pas 37:32 RO",
        "pd8 38 RO",
        "pd17 39 RO",
        "pd20 40 RO",
        "nl 42 RO",
        "s 43 RO",
    ],
    "fctl": ["be 0 RO", "wsi 1 RO", "gxl 2 RO"],
    "ddtp": ["iommu_mode 3:0 RW", "busy 4 RO", "ppn 53:10 RW"],
    "cqb": ["log2sz_1 4:0 RW", "ppn 53:10 RW"],
    "fqb": ["log2sz_1 4:0 RW", "ppn 53:10 RW"],
    "pqb": ["log2sz_1 4:0 RW", "ppn 53:10 RW"],
    "cqh": ["index 31:0 RO"],
    "cqt": ["index 31:0 RW"],
    "fqh": ["index 31:0 RW"],
    "fqt": ["index 31:0 RO"],
    "pqh": ["index 31:0 RW"],
    "pqt": ["index 31:0 RO"],
    "cqcsr": [
        "cqen 0 RW",
        "cie 1 RW",
        "cqmf 8 RW1C",
        "cmd_to 9 RW1C",
        "cmd_ill 10 RW1C",
        "fence_w_ip 11 RW1C",
        "cqon 16 RO",
        "busy 17 RO",
    ],
    "fqcsr": ["fqen 0 RW", "fie 1 RW", "fqmf 8 RW1C", "fqof 9 RW1C", "fqon 16 RO", "busy 17 RO"],
    "pqcsr": ["pqen 0 RW", "pie 1 RW", "pqmf 8 RO", "pqof 9 RO", "pqon 16 RO", "busy 17 RO"],
    "ipsr": ["cip 0 RW1C", "fip 1 RW1C", "pmip 2 RW1C", "pip 3 RW1C"],
    "iocountovf": ["cy 0 RO", "hpm 31:1 RO"],
    "iocountinh": ["cy 0 RW", "hpm 31:1 RW"],
    "iohpmcycles": ["counter 62:0 RW", "of 63 RW"],
    "iohpmctr": ["counter 63:0 RW"],
    "iohpmevt": [
        "eventid 14:0 RW",
        "dmask 15 RW",
        "pid_pscid 35:16 RW",
        "did_gscid 59:36 RW",
        "pv_pscv 60 RW",
        "dv_gscv 61 RW",
        "idt 62 RW",
        "of 63 RW",
    ],
    "tr_req_iova": ["vpn 63:12 RW"],
    "tr_req_ctl": ["go_busy 0 RW1S", "priv 1 RW", "exe 2 RW", "nw 3 RW", "pid 31:12 RW", "pv 32 RW", "did 63:40 RW"],
    "tr_response": ["fault 0 RO", "pbmt 8:7 RO", "s 9 RO", "ppn 53:10 RO"],
    "icvec": ["civ 3:0 RW", "fiv 7:4 RW", "pmiv 11:8 RW", "piv 15:12 RW"],
}


def test_registers_are_where_the_specification_has_them():
    assert {name: (r.offset, r.width // 8) for name, r in iommu_registers().items()} == LAYOUT


def test_fields_are_where_the_specification_has_them_and_as_writable():
    access = {None: "RW", OnWriteType.woclr: "RW1C", OnWriteType.woset: "RW1S"}
    for node in description().descendants(unroll=True):
        if not isinstance(node, RegNode):
            continue
        fields = [
            f"{f.inst_name} {f.low if f.width == 1 else f'{f.high}:{f.low}'} "
            + (access[f.get_property("onwrite")] if f.is_sw_writable else "RO")
            for f in node.fields()
        ]
        assert fields == FIELDS[node.inst_name], node.get_path()


def test_registers_pack_and_unpack():
    evt = iommu_registers()["iohpmevt2"]
    word = evt.pack(eventid=4, did_gscid=0x123456, dv_gscv=1)
    assert word == 1 << 61 | 0x123456 << 36 | 4
    assert evt.get(word, "did_gscid") == 0x123456


@pytest.mark.parametrize(("language", "standard"), [("c", "c11"), ("c++", "c++17")])
def test_header_compiles_places_registers_and_masks_fields(tmp_path, language, standard):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.fail("g++ is needed to check the header: apt install g++")
    header = write_iommu_header(tmp_path)
    checks = []
    for name, register in iommu_registers().items():
        array = re.fullmatch(r"(iohpm(?:ctr|evt))(\d+)", name)
        member = f"{array[1]}[{int(array[2]) - 1}]" if array else name
        checks.append(f'static_assert(offsetof(iommu_t, {member}) == {register.offset}, "{name}");')
        for field in register.fields.values():
            prefix = f"IOMMU__{f'{array[1]}x' if array else name}__{field.name}".upper()
            checks.append(
                f'static_assert({prefix}_bm == {field.mask:#x}ull && {prefix}_bp == {field.lsb}, "{prefix}");'
            )
    source = tmp_path / "check"
    source.write_text(f'#include <stddef.h>\n#include "{header.name}"\n' + "\n".join(checks))
    options = ["-x", language, f"-std={standard}", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    quiet = ["-Wno-invalid-offsetof"] if language == "c++" else []
    subprocess.run([compiler, *options, *quiet, str(source)], check=True)


def test_reference_is_a_page_that_names_the_map(tmp_path):
    assert "Pagewheel IOMMU" in write_iommu_reference(tmp_path).read_text()
