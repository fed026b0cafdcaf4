# SPDX-License-Identifier: BSD-2-Clause
"""The exported IOMMU has the names that tools expect, the ports that its configuration needs, and the same bytes each
time."""

from dataclasses import replace

import pytest

from hw.config import CacheConfig, IommuConfig
from hw.export.__main__ import main
from hw.export.iommu import ExportedIommu
from hw.export.verilog import export_verilog
from tests.hw.export.ports import ports

SMALL = IommuConfig(data_width=128, tlb_4k=CacheConfig(4, 2), walks=2, counters=1, vectors=3)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return export_verilog(SMALL, tmp_path_factory.mktemp("verilog")).read_text()


def test_ports_have_axi_names(text):
    found = ports(text, ExportedIommu.NAME)
    expected = {
        "clk": ("input", 1),
        "rst": ("input", 1),
        "s_axi_awaddr": ("input", 64),
        "s_axi_awuser": ("input", 47),
        "s_axi_awburst": ("input", 2),
        "s_axi_awready": ("output", 1),
        "s_axi_wstrb": ("input", 16),
        "s_axi_bresp": ("output", 2),
        "s_axi_aruser": ("input", 47),
        "s_axi_rdata": ("output", 128),
        "s_axi_rid": ("output", 8),
        "m_axi_awaddr": ("output", 64),
        "m_axi_awburst": ("output", 2),
        "m_axi_awuser": ("output", 47),
        "m_axi_wdata": ("output", 128),
        "m_axi_bvalid": ("input", 1),
        "m_axi_walk_araddr": ("output", 64),
        "m_axi_walk_arlock": ("output", 1),
        "m_axi_walk_rdata": ("input", 64),
        "m_axi_walk_wstrb": ("output", 8),
        "s_axil_awaddr": ("input", 12),
        "s_axil_rdata": ("output", 64),
        "interrupts": ("output", 3),
        "invalidate_address": ("output", 52),
        "invalidate_valid": ("output", 1),
        "invalidated_tag": ("input", 5),
        "invalidated_ready": ("output", 1),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "m_axi_walk_aruser" not in found


def test_no_trace_of_this_machine_and_the_same_bytes_again(text, tmp_path, monkeypatch):
    assert "(* src" not in text
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    assert export_verilog(SMALL, tmp_path).read_text() == text


def test_messages_to_devices_exist_only_with_ats(tmp_path):
    found = ports(export_verilog(replace(SMALL, ats=False), tmp_path).read_text(), ExportedIommu.NAME)
    assert not [name for name in found if name.startswith("invalidate")]


def test_command_writes_verilog_header_and_reference(tmp_path, capsys):
    main(["--core", "iommu", "-o", str(tmp_path / "new")])
    written = capsys.readouterr().out.split()
    assert [name.rpartition("/")[2] for name in written] == ["pagewheel_iommu.v", "pagewheel_iommu.h", "index.html"]
    header = (tmp_path / "new" / "pagewheel_iommu.h").read_text()
    assert "ddtp" in header
