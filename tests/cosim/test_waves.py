# SPDX-License-Identifier: BSD-2-Clause
"""Waves of the real machine: the save file shows a packet's whole path, and nothing that the dump does not have."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hw.abi.rings import DropReason, QueueError, QueueState
from hw.bus.axi4 import Response
from sim.backends.base import Backend, launch
from sim.backends.build import fst_available
from sim.config import SERIAL_BITS, MachineConfig, preset
from sim.trace.gtkw import GROUPS, variables, write_save_file

HERE = "tests.cosim.test_waves"
KINDS = {kind.__name__: kind for kind in (QueueState, QueueError, DropReason, Response)}


def idle(backend: Backend, machine: MachineConfig, cycles: int) -> int:
    """What the dump declares does not depend on what happens."""
    return backend.advance(cycles)


def shown(save: Path) -> dict[str, list[str]]:
    """The signals of each group of a save file, in its order."""
    groups: dict[str, list[str]] = {}
    inside = ""
    for line in save.read_text().splitlines():
        if line.startswith("-") and not inside:
            inside = line[1:]
            groups[inside] = []
        elif line == f"-{inside}":
            inside = ""
        elif inside and not line.startswith(("@", "^", "#", "[", "*")):
            groups[inside].append(line)
    return groups


@pytest.mark.parametrize(("backend", "kind"), [("verilator", "fst" if fst_available() else "vcd"), ("amaranth", "vcd")])
def test_the_save_file_fits_the_dump(tmp_path: Any, backend: str, kind: str) -> None:
    waves = tmp_path / f"run.{kind}"
    plain = preset("10g")
    traced = replace(plain, nic=replace(plain.nic, serial_width=SERIAL_BITS))
    launch(backend, traced, f"{HERE}:idle", 20, waves=waves)
    declared = {variable.reference for variable in variables(waves)}
    save = write_save_file(waves)
    groups = shown(save)
    assert list(groups) == [title for title, _ in GROUPS]
    for title, signals in groups.items():
        assert signals, f"group {title!r} is empty"
        assert set(signals) <= declared
        assert len(signals) == len(set(signals))
    assert_states_have_names(save, waves)


def assert_states_have_names(save: Path, waves: Path) -> None:
    """By the simulator itself, or by files of names beside the save file."""
    if waves.suffix == ".vcd":
        with waves.open() as header:
            strings = [line.split()[4] for line in header if line.lstrip().startswith("$var string")]
        if any(name.endswith(".state") for name in strings):
            return
    files = {Path(line.split(maxsplit=1)[1]) for line in save.read_text().splitlines() if line.startswith("^")}
    assert {file.stem for file in files} == set(KINDS)
    for file in files:
        names = file.read_text().split()[1::2]
        assert names == list(KINDS[file.stem].__members__)
