# SPDX-License-Identifier: BSD-2-Clause
"""Models are built once, and what is missing is named."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from amaranth.lib import wiring

from sim.backends import build
from sim.backends.base import launch
from tests.sim.backends.designs import CopierDesign

ECHO = "tests.sim.backends.designs:echo"


@dataclass(frozen=True)
class BrokenDesign:
    """Cannot be built."""

    access_log: bool = False

    def build(self) -> wiring.Component:
        raise ValueError("no such machine")


def forbid(*arguments: Any, **options: Any) -> None:
    raise AssertionError(f"started {arguments!r}")


def test_second_use_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.model(CopierDesign())
    monkeypatch.setattr(subprocess, "run", forbid)
    assert build.model(CopierDesign()) == first
    assert build.model(CopierDesign(access_log=False)).folder == first.folder
    with pytest.raises(AssertionError, match="sim.backends.generate"):
        build.model(CopierDesign(width=32))


def test_same_verilog_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = set()
    for line in (b"", b"# a comment"):
        monkeypatch.setattr(build, "_hardware_sources", lambda line=line: [line])
        folders.add(build.model(CopierDesign()).folder)
    assert len(folders) == 1


def test_what_models_share_is_compiled_once() -> None:
    """Only the very first of all models compiles Verilator's own files and the storage."""
    logs = [(build.model(CopierDesign(width=width)).folder / "build.log").read_text() for width in (64, 512)]
    assert all("-o verilator.o" in log for log in logs)
    for shared in ("verilated.o", "storage.o"):
        assert sum(f"-o {shared}" in log for log in logs) <= 1


def test_no_command_named_python_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on Debian, which has ``python3`` only."""
    decoy = tmp_path / "bin" / "python"
    decoy.parent.mkdir()
    decoy.write_text("#!/bin/sh\nexit 127\n")
    decoy.chmod(0o755)
    monkeypatch.setenv("PATH", str(decoy.parent), prepend=":")
    monkeypatch.setenv("PAGEWHEEL_BUILD", str(tmp_path))
    assert build.model(CopierDesign()).folder.is_relative_to(tmp_path)


def test_slower_of_two_builds_gives_way(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("first", "second"):
        work = tmp_path / f"work-{text}"
        work.mkdir()
        (work / "result").write_text(text)
        build._publish(work, target)
    assert (target / "result").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("tool", ["perl", "make", "g++"])
def test_missing_tool_is_named(tool: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = build.shutil.which
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name == tool else found(name))
    monkeypatch.setenv("PAGEWHEEL_BUILD", str(tmp_path))
    build._tools.cache_clear()
    with pytest.raises(build.BuildError) as error:
        launch("verilator", CopierDesign(), ECHO)
    assert f"{tool!r} is not on PATH. Install it (Debian: apt install g++ make perl)" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_failed_elaboration_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAGEWHEEL_BUILD", str(tmp_path))
    with pytest.raises(build.BuildError, match="(?s)Elaboration of BrokenDesign.* failed:.*no such machine"):
        build.model(BrokenDesign())
    assert list((tmp_path / "models").iterdir()) == []


def test_failed_compilation_leaves_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "storage.cpp"
    broken.write_text("this is no program\n")
    monkeypatch.setenv("PAGEWHEEL_BUILD", str(tmp_path))
    monkeypatch.setattr(build, "SOURCES", (*build.SOURCES[:-1], broken))
    with pytest.raises(build.BuildError, match=r"(?s)build.log ends with:.*this.*no program"):
        build.model(CopierDesign())


def test_fst_needs_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "fst_available", lambda: False)
    with pytest.raises(build.BuildError, match="FST waves need the headers of lz4 and zlib"):
        build.model(CopierDesign(), waves="fst")
