# SPDX-License-Identifier: BSD-2-Clause
"""Cost profiles: what operations cost on a machine, solved from published benchmarks."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parent / "profiles"


class ProfileError(ValueError):
    """A profile that contradicts itself or leaves something open."""


class Operation:
    """Something that a core spends time on: its cost, and how often it happened there."""

    __slots__ = ("count", "name", "ps")

    def __init__(self, name: str, ps: int) -> None:
        self.name = name
        self.ps = ps
        self.count = 0

    def __repr__(self) -> str:
        return f"Operation({self.name!r}, {self.ps} ps, {self.count} times)"


@dataclass(frozen=True)
class Cost:
    """Cost of a primitive. Instructions scale with the core's clock, waits for memory do not: two parts.

    ``origin`` names the benchmark it was solved from; for an assumption it is ``assumption: `` and the reason.
    """

    cycles: Fraction
    ns: Fraction
    origin: str

    @property
    def assumed(self) -> bool:
        """No published figure stands behind it."""
        return self.origin.startswith("assumption: ")

    def ps(self, khz: int) -> Fraction:
        """Picoseconds at a clock."""
        return self.cycles * Fraction(10**9, khz) + self.ns * 1000


@dataclass(frozen=True)
class Benchmark:
    """A published measurement: primitives in one turn of a loop, and the time of a turn."""

    name: str
    loop: Mapping[str, Fraction]
    ps: Fraction
    source: str
    is_check: bool  #: nothing was solved from it: it only has to come out


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


class Profile:
    """Costs of one machine's operations.

    A profile is a TOML file: ``name``, ``machine``, ``frequency_khz``, ``coherent`` (whether devices see into the CPU
    caches, as they do by default), and in this order of evaluation

    - ``[[assumption]]`` with ``name``, ``cycles`` or ``ns``, and ``reason``: what has no published figure;
    - ``[[benchmark]]`` with ``name``, ``loop`` (count of each primitive in a turn), the result of a turn as
      ``cycles``, ``ns`` or ``mpps``, and ``source``. What the known primitives leave of the result is the cost of the
      one that is still unknown; where the loop has several (a pair such as alloc and free, measured together),
      ``split`` gives their shares. ``solve_for`` is ``cycles`` or ``ns``;
    - ``[[check]]``, a benchmark without unknowns.

    ``where`` names the file in messages. Raises :class:`ProfileError`.
    """

    def __init__(self, text: str, where: str = "profile") -> None:
        try:
            table = tomllib.loads(text, parse_float=Fraction)
        except tomllib.TOMLDecodeError as error:
            raise ProfileError(f"{where}: {error}") from None
        _only(table, where, {"name", "machine", "frequency_khz"}, {"coherent", "assumption", "benchmark", "check"})
        khz = table["frequency_khz"]
        if not isinstance(khz, int) or isinstance(khz, bool) or khz <= 0:
            raise ProfileError(f"{where}: frequency_khz must be a positive integer, not {khz!r}")
        coherent = table.get("coherent", True)
        if not isinstance(coherent, bool):
            raise ProfileError(f"{where}: coherent must be true or false, not {coherent!r}")
        self.name: str = table["name"]
        self.machine: str = table["machine"]
        self.khz: int = khz
        self.coherent = coherent
        self.digest = hashlib.sha256(text.encode()).hexdigest()  #: of the file, for results
        self._costs: dict[str, Cost] = {}
        self._benchmarks: list[Benchmark] = []
        for entry in table.get("assumption", []):
            self._assume(entry, where)
        for entry in table.get("benchmark", []):
            self._solve(entry, where)
        for entry in table.get("check", []):
            self._check(entry, where)
        self._ps = {name: round(cost.ps(khz)) for name, cost in self._costs.items()}

    @classmethod
    def load(cls, name: str) -> Profile:
        """A profile that comes with Pagewheel. Raises ``ValueError`` if there is none of that name."""
        path = FOLDER / f"{name}.toml"
        known = cls.names()
        if name not in known:
            raise ValueError(f"Profile must be one of {', '.join(known)}, not {name!r}")
        return cls(path.read_text(encoding="utf-8"), path.name)

    @staticmethod
    def names() -> list[str]:
        """Profiles that come with Pagewheel."""
        return sorted(path.stem for path in FOLDER.glob("*.toml"))

    @property
    def costs(self) -> Mapping[str, Cost]:
        """Cost of each primitive."""
        return MappingProxyType(self._costs)

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """Every benchmark, and every check after them."""
        return tuple(self._benchmarks)

    def ps(self, name: str) -> int:
        """Picoseconds of a primitive, rounded once. Raises ``KeyError`` for one that the profile does not have."""
        if name not in self._ps:
            raise KeyError(f"Profile {self.name} has no cost for {name!r}; it has {', '.join(sorted(self._ps))}")
        return self._ps[name]

    def _add(self, name: str, cost: Cost, where: str) -> None:
        if name in self._costs:
            raise ProfileError(f"{where}: {name!r} already has a cost")
        self._costs[name] = cost

    def _assume(self, entry: Mapping[str, Any], where: str) -> None:
        where = f"{where}: assumption {entry.get('name')!r}"
        _only(entry, where, {"name", "reason"}, {"cycles", "ns"})
        cycles = _number(entry.get("cycles", 0), f"{where}: cycles")
        ns = _number(entry.get("ns", 0), f"{where}: ns")
        if ("cycles" in entry) == ("ns" in entry):
            raise ProfileError(f"{where} must give cycles or ns")
        self._add(entry["name"], Cost(cycles, ns, f"assumption: {entry['reason']}"), where)

    def _measured(self, entry: Mapping[str, Any], where: str, *, is_check: bool) -> Benchmark:
        units = [unit for unit in ("cycles", "ns", "mpps") if unit in entry]
        if len(units) != 1:
            raise ProfileError(f"{where} must give its result in one of cycles, ns and mpps")
        value = _number(entry[units[0]], f"{where}: {units[0]}")
        if not value:
            raise ProfileError(f"{where}: {units[0]} must not be 0")
        ps = {"cycles": value * Fraction(10**9, self.khz), "ns": value * 1000, "mpps": Fraction(10**6) / value}
        loop = {name: _number(count, f"{where}: loop: {name}") for name, count in entry["loop"].items()}
        return Benchmark(entry["name"], MappingProxyType(loop), ps[units[0]], entry["source"], is_check)

    def _solve(self, entry: Mapping[str, Any], where: str) -> None:
        where = f"{where}: benchmark {entry.get('name')!r}"
        _only(entry, where, {"name", "loop", "source"}, {"cycles", "ns", "mpps", "split", "solve_for"})
        benchmark = self._measured(entry, where, is_check=False)
        unknown = [name for name in benchmark.loop if name not in self._costs]
        split = {name: _number(share, f"{where}: split: {name}") for name, share in entry.get("split", {}).items()}
        if not unknown:
            raise ProfileError(f"{where} has no unknown primitive: make it a check")
        if len(unknown) == 1 and not split:
            split = {unknown[0]: Fraction(1)}
        if set(split) != set(unknown) or not sum(split.values()):
            raise ProfileError(f"{where} must split {', '.join(unknown)}, not {', '.join(split)}")
        known = sum(count * self._costs[n].ps(self.khz) for n, count in benchmark.loop.items() if n in self._costs)
        rest = benchmark.ps - known
        if rest <= 0:
            raise ProfileError(f"{where}: known primitives take {float(known):.0f} of {float(benchmark.ps):.0f} ps")
        solve_for = entry.get("solve_for", "cycles")
        if solve_for not in ("cycles", "ns"):
            raise ProfileError(f"{where}: solve_for must be cycles or ns, not {solve_for!r}")
        for name in unknown:
            if not benchmark.loop[name]:
                raise ProfileError(f"{where} cannot be solved for {name!r}, which it does not use")
            ps = rest * split[name] / sum(split.values()) / benchmark.loop[name]
            if solve_for == "cycles":
                self._add(name, Cost(ps * Fraction(self.khz, 10**9), Fraction(0), benchmark.name), where)
            else:
                self._add(name, Cost(Fraction(0), ps / 1000, benchmark.name), where)
        self._benchmarks.append(benchmark)

    def _check(self, entry: Mapping[str, Any], where: str) -> None:
        where = f"{where}: check {entry.get('name')!r}"
        _only(entry, where, {"name", "loop", "source"}, {"cycles", "ns", "mpps"})
        benchmark = self._measured(entry, where, is_check=True)
        for name in benchmark.loop:
            if name not in self._costs:
                raise ProfileError(f"{where} uses {name!r}, which has no cost")
        self._benchmarks.append(benchmark)
