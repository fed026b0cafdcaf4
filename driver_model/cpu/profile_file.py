# SPDX-License-Identifier: BSD-2-Clause
"""Files of cost profiles: what one says of a machine, before anything is solved or borrowed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parent / "profiles"
UNITS = ("cycles", "ns", "mpps")
SWITCHES = ("coherent", "ddio")  #: of a machine


class ProfileError(ValueError):
    """A profile that contradicts itself or leaves something open."""


@dataclass(frozen=True)
class Assumption:
    """A cost without a published figure, in cycles or nanoseconds."""

    cycles: Fraction
    ns: Fraction
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """A published measurement: operations in one turn of a loop, and the time of a turn."""

    name: str
    loop: Mapping[str, Fraction]
    value: Fraction  #: as published
    unit: str  #: of :data:`UNITS`
    ps: Fraction  #: of a turn
    source: str  #: where it is published
    note: str  #: what else there is to know of it: its machine's state, what the split rests on
    split: Mapping[str, Fraction]  #: shares of the operations solved for; empty for a check
    solve_for: str  #: ``cycles`` or ``ns``

    @property
    def is_check(self) -> bool:
        """Nothing is solved from it: it only has to come out."""
        return not self.split


@dataclass(frozen=True)
class Borrow:
    """Operations whose costs are those of another machine."""

    lender: str
    patterns: tuple[str, ...]
    reason: str

    def covers(self, operation: str) -> bool:
        """Whether one of the names and patterns (``slab.*``) is that of the operation."""
        return any(fnmatchcase(operation, pattern) for pattern in self.patterns)


class ProfileFile:
    """A profile's TOML text, checked as far as it stands alone.

    ``name``, ``machine``, ``frequency_khz``, ``coherent`` (whether devices see the CPU's caches) and ``ddio`` (whether
    what they write goes into the last level cache), both true if left out, and

    - ``[[assumption]]`` with ``name``, ``cycles`` or ``ns``, and ``reason``: what has no published figure;
    - ``[[benchmark]]`` with ``name``, ``loop`` (count of each operation in a turn), the result of a turn as
      ``cycles``, ``ns`` or ``mpps``, ``source`` and, if needed, ``note``. It is solved for the operations that
      ``split`` names, in these shares; without one for that of the loop that nothing before has a cost for.
      ``solve_for`` is ``cycles`` or ``ns``;
    - ``[[check]]``, a benchmark without unknowns;
    - ``[[borrow]]`` with ``from`` (another profile), ``operations`` (names or patterns, as ``slab.*``; ``*`` is
      whatever is left) and ``reason``: what the file itself does not define is taken from the first entry whose lender
      itself defines it.

    ``where`` names the file in messages. Raises :class:`ProfileError`.
    """

    def __init__(self, text: str, where: str = "profile") -> None:
        try:
            table = tomllib.loads(text, parse_float=Fraction)
        except tomllib.TOMLDecodeError as error:
            raise ProfileError(f"{where}: {error}") from None
        known = {*SWITCHES, "assumption", "benchmark", "check", "borrow"}
        _only(table, where, {"name", "machine", "frequency_khz"}, known)
        khz, switches = table["frequency_khz"], {name: table.get(name, True) for name in SWITCHES}
        if not isinstance(khz, int) or isinstance(khz, bool) or khz <= 0:
            raise ProfileError(f"{where}: frequency_khz must be a positive integer, not {khz!r}")
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise ProfileError(f"{where}: {name} must be true or false, not {value!r}")
        self.text = text
        self.where = where
        self.name: str = table["name"]
        self.machine: str = table["machine"]
        self.khz: int = khz
        self.coherent: bool = switches["coherent"]
        self.ddio: bool = switches["ddio"]
        self.assumptions: dict[str, Assumption] = {}
        self.solved: dict[str, Benchmark] = {}  #: operations, and what each is solved from
        self.benchmarks: list[Benchmark] = []
        self.borrows = [self._borrow(entry) for entry in table.get("borrow", [])]
        for entry in table.get("assumption", []):
            self._assume(entry)
        for entry in table.get("benchmark", []):
            self._benchmark(entry)
        for entry in table.get("check", []):
            where = f"{self.where}: check {entry.get('name')!r}"
            _only(entry, where, {"name", "loop", "source"}, {*UNITS, "note"})
            self.benchmarks.append(self._measured(entry, where))

    @staticmethod
    def read(name: str, folder: Path = FOLDER) -> ProfileFile:
        """The file of a profile, read once. Raises ``ValueError`` if the folder has none of that name."""
        return _read(ProfileFile.path(name, folder))

    @staticmethod
    def path(name: str, folder: Path = FOLDER) -> Path:
        """Where the file of a profile is. Raises ``ValueError`` if the folder has none of that name."""
        known = ProfileFile.names(folder)
        if name not in known:
            raise ValueError(f"Profile must be one of {', '.join(known)}, not {name!r}")
        return folder / f"{name}.toml"

    @staticmethod
    def names(folder: Path = FOLDER) -> list[str]:
        """Profiles of a folder."""
        return sorted(path.stem for path in folder.glob("*.toml"))

    @property
    def defined(self) -> list[str]:
        """Operations that the file itself has a cost for."""
        return [*self.assumptions, *self.solved]

    def _assume(self, entry: Mapping[str, Any]) -> None:
        where = f"{self.where}: assumption {entry.get('name')!r}"
        _only(entry, where, {"name", "reason"}, {"cycles", "ns"})
        cycles = _number(entry.get("cycles", 0), f"{where}: cycles")
        ns = _number(entry.get("ns", 0), f"{where}: ns")
        if ("cycles" in entry) == ("ns" in entry):
            raise ProfileError(f"{where} must give cycles or ns")
        self._new(entry["name"], where)
        self.assumptions[entry["name"]] = Assumption(cycles, ns, entry["reason"])

    def _benchmark(self, entry: Mapping[str, Any]) -> None:
        where = f"{self.where}: benchmark {entry.get('name')!r}"
        _only(entry, where, {"name", "loop", "source"}, {*UNITS, "note", "split", "solve_for"})
        unknown = [name for name in entry["loop"] if name not in self.assumptions and name not in self.solved]
        split = {name: _number(share, f"{where}: split: {name}") for name, share in entry.get("split", {}).items()}
        if not unknown:
            raise ProfileError(f"{where} has no unknown operation: make it a check")
        for name in split:
            self._new(name, where)
        if len(unknown) == 1 and not split:
            split = {unknown[0]: Fraction(1)}
        left = [name for name in unknown if name not in split]
        if not split or not set(split) <= set(unknown) or (left and not self.borrows):
            raise ProfileError(f"{where} must split {', '.join(unknown)}, not {', '.join(split)}")
        if not any(split.values()):
            raise ProfileError(f"{where}: a share of split must be above 0")
        solve_for = entry.get("solve_for", "cycles")
        if solve_for not in ("cycles", "ns"):
            raise ProfileError(f"{where}: solve_for must be cycles or ns, not {solve_for!r}")
        benchmark = self._measured(entry, where, split, solve_for)
        for name in split:
            if not benchmark.loop[name]:
                raise ProfileError(f"{where} cannot be solved for {name!r}, which it does not use")
            self.solved[name] = benchmark
        self.benchmarks.append(benchmark)

    def _measured(
        self,
        entry: Mapping[str, Any],
        where: str,
        split: Mapping[str, Fraction] = MappingProxyType({}),
        solve_for: str = "cycles",
    ) -> Benchmark:
        units = [unit for unit in UNITS if unit in entry]
        if len(units) != 1:
            raise ProfileError(f"{where} must give its result in one of cycles, ns and mpps")
        (unit,) = units
        value = _number(entry[unit], f"{where}: {unit}")
        if not value:
            raise ProfileError(f"{where}: {unit} must not be 0")
        if not entry["source"]:
            raise ProfileError(f"{where}: source must say where it is published")
        ps = {"cycles": value * Fraction(10**9, self.khz), "ns": value * 1000, "mpps": Fraction(10**6) / value}[unit]
        loop = {name: _number(count, f"{where}: loop: {name}") for name, count in entry["loop"].items()}
        fixed = MappingProxyType(loop), value, unit, ps, entry["source"], entry.get("note", "")
        return Benchmark(entry["name"], *fixed, MappingProxyType(dict(split)), solve_for)

    def _borrow(self, entry: Mapping[str, Any]) -> Borrow:
        where = f"{self.where}: borrow from {entry.get('from')!r}"
        _only(entry, where, {"from", "operations", "reason"}, set())
        if entry["from"] == self.name:
            raise ProfileError(f"{where} is from itself")
        patterns = entry["operations"]
        if not isinstance(patterns, list) or not patterns or not all(isinstance(each, str) for each in patterns):
            raise ProfileError(f"{where}: operations must be a list of names or patterns, not {patterns!r}")
        return Borrow(entry["from"], tuple(patterns), entry["reason"])

    def _new(self, name: str, where: str) -> None:
        if name in self.assumptions or name in self.solved:
            raise ProfileError(f"{where}: {name!r} already has a cost")


@cache
def _read(path: Path) -> ProfileFile:
    return ProfileFile(path.read_text(encoding="utf-8"), path.name)


def _only(table: Mapping[str, Any], where: str, required: set[str], optional: set[str]) -> None:
    known = sorted(required | optional)
    for key in table:
        if key not in known:
            raise ProfileError(f"{where} has an unknown entry {key!r}; known are {', '.join(known)}")
    for key in sorted(required):
        if key not in table:
            raise ProfileError(f"{where} lacks {key!r}")


def _number(value: Any, where: str, *, low: int = 0) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | Fraction):
        raise ProfileError(f"{where} must be a number, not {value!r}")
    if value < low:
        raise ProfileError(f"{where} must be at least {low}, not {value!r}")
    return Fraction(value)
