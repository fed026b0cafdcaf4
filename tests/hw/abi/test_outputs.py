# SPDX-License-Identifier: BSD-2-Clause
"""The generated header says what the hardware does, and a C compiler takes it."""

import re
import shutil
import subprocess

import pytest

from hw.abi.outputs import write_header, write_reference
from hw.abi.registers import register_map


def test_header_defines_every_port_field_as_described(tmp_path):
    header = write_header(2, tmp_path).read_text()
    defines = dict(re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)\n", header))
    for name, register in register_map(2).port.items():
        if "." in name:
            continue
        for field in register.fields.values():
            prefix = f"NIC__{name.upper()}__{field.name.upper()}"
            assert int(defines[f"{prefix}_bm"], 0) == field.mask
            assert int(defines[f"{prefix}_reset"], 0) == field.reset


def test_header_has_the_frame_limit_of_the_hardware(tmp_path):
    header = write_header(2, tmp_path, max_frame=1514).read_text()
    value = re.search(r"#define NIC__FRAME_LIMITS__MAX_LENGTH_reset (0x[0-9a-f]+|\d+)\n", header)[1]
    assert int(value, 0) == 1514


def test_header_defines_the_fields_of_pools_where_there_are_some(tmp_path):
    header = write_header(2, tmp_path, pools=3).read_text()
    defines = dict(re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)\n", header))
    for name, register in register_map(2, pools=3).pool.items():
        for field in register.fields.values():
            prefix = f"NIC__POOLX__{name.upper()}__{field.name.upper()}"
            assert int(defines[f"{prefix}_bm"], 0) == field.mask
            assert int(defines[f"{prefix}_reset"], 0) == field.reset
    assert "NIC__POOLX__" not in write_header(2, tmp_path).read_text()


@pytest.mark.parametrize("pools", [0, 2])
def test_header_compiles_and_places_registers(tmp_path, pools):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.fail("g++ is needed to check the header: apt install g++")
    header = write_header(3, tmp_path, pools=pools)
    registers = register_map(3, pools=pools)
    checks = [
        f"static_assert(offsetof(nic_t, {name}) == {register.offset}, {name!r});".replace("'", '"')
        for name, register in registers.port.items()
    ] + [
        f"static_assert(offsetof(nic_t, queue[2].{name}) == {registers.address(name, 2)}, {name!r});".replace("'", '"')
        for name in registers.queue
    ]
    if pools:
        checks += [
            f'static_assert(offsetof(nic_t, pool[1].{name}) == {registers.address(name, pool=1)}, "{name}");'
            for name in registers.pool
        ]
    source = tmp_path / "check.cpp"
    source.write_text(f'#include <cstddef>\n#include "{header.name}"\n' + "\n".join(checks))
    subprocess.run([compiler, "-fsyntax-only", "-Wall", "-Wno-invalid-offsetof", str(source)], check=True)


def test_header_is_reproducible(tmp_path):
    (tmp_path / "again").mkdir()
    assert write_header(2, tmp_path).read_bytes() == write_header(2, tmp_path / "again").read_bytes()


def test_reference_is_a_page_that_names_the_map(tmp_path):
    page = write_reference(2, tmp_path)
    assert page.name == "index.html"
    assert "Pagewheel NIC" in page.read_text()


@pytest.mark.parametrize("pools", [0, 2])
def test_reference_has_the_page_of_pools_where_there_are_some(tmp_path, pools):
    page = write_reference(2, tmp_path, pools=pools)
    named = [text for text in page.parent.rglob("*.html") if "overdue_bound" in text.read_text()]
    assert bool(named) == bool(pools)
