# SPDX-License-Identifier: BSD-2-Clause
"""The exported NIC has the names that tools expect, the same bytes each time, and nothing of the simulation."""

import re

import pytest

from hw.config import preset
from hw.export.__main__ import main
from hw.export.nic import ExportedNic
from hw.export.verilog import export, export_verilog
from tests.hw.export.ports import ports

CONFIG = preset("10g", queues=1)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return export_verilog(CONFIG, tmp_path_factory.mktemp("verilog")).read_text()


def test_ports_have_axi_names(text):
    found = ports(text, ExportedNic.NAME)
    expected = {
        "clk": ("input", 1),
        "rst": ("input", 1),
        "m_axi_awaddr": ("output", 64),
        "m_axi_awburst": ("output", 2),
        "m_axi_awcache": ("output", 4),
        "m_axi_awuser": ("output", 47),
        "m_axi_wstrb": ("output", 8),
        "m_axi_bready": ("output", 1),
        "m_axi_arqos": ("output", 4),
        "m_axi_rdata": ("input", 64),
        "s_axil_awaddr": ("input", CONFIG.mmio_addr_width),
        "s_axil_wstrb": ("input", 8),
        "s_axil_rresp": ("output", 2),
        "s_axis_rx_tkeep": ("input", 8),
        "s_axis_rx_tready": ("output", 1),
        "m_axis_tx_tuser": ("output", 1),
        "m_axis_tx_tready": ("input", 1),
        "interrupt_vector": ("output", 16),
        "interrupt_ready": ("input", 1),
        "carrier": ("input", 1),
    }
    assert {name: found.get(name) for name in expected} == expected


def test_nothing_of_the_simulation_or_of_this_machine_remains(text):
    assert "serial" not in text
    assert "trace" not in text
    assert "probes" not in text
    assert "(* src" not in text


def test_export_is_reproducible_and_drops_serial_and_probes(text, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    again = export_verilog(preset("10g", queues=1, serial_width=32, probes=True), tmp_path)
    assert again.read_text() == text


def test_command_writes_verilog_header_and_reference(tmp_path, capsys):
    main(["--preset", "10g", "-o", str(tmp_path / "new")])
    written = capsys.readouterr().out.split()
    assert [name.rpartition("/")[2] for name in written] == ["pagewheel_nic.v", "pagewheel_nic.h", "index.html"]
    assert (tmp_path / "new" / "pagewheel_nic.v").exists()


@pytest.mark.parametrize("pools", [0, 2])
def test_header_and_reference_are_of_the_exported_configuration(tmp_path, pools):
    _, header, reference = export(preset("10g", queues=1, pools=pools, pool_buffers=16), tmp_path)
    size = re.search(r"sizeof\(nic_t\) == (0x[0-9a-f]+)", header.read_text())[1]
    assert int(size, 0) == 0x1000 * (2 + pools)
    assert ("NIC__POOLX__RETURN4__ID3_bm" in header.read_text()) == bool(pools)
    assert any("overdue_bound" in page.read_text() for page in reference.parent.rglob("*.html")) == bool(pools)


def test_what_is_no_configuration_is_refused(tmp_path):
    with pytest.raises(TypeError, match="Configuration must be a NicConfig or an IommuConfig, not '10g'"):
        export("10g", tmp_path)
