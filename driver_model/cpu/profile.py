# SPDX-License-Identifier: BSD-2-Clause
"""Cost profiles: what operations cost on a machine, solved from published benchmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from driver_model.cpu.profile_file import FOLDER, Benchmark, Borrow, ProfileError, ProfileFile

__all__ = ["Benchmark", "Cost", "Operation", "Profile", "ProfileError"]


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
    """Cost of an operation. Instructions scale with the core's clock, waits for memory do not: two parts."""

    cycles: Fraction
    ns: Fraction
    basis: str  #: name of the benchmark that it is solved from, or an assumption's reason
    source: str = ""  #: where the benchmark is published; nothing for an assumption
    lender: str = ""  #: profile that it is borrowed from, if it is
    why: str = ""  #: and for what reason

    @property
    def assumed(self) -> bool:
        """No published figure stands behind it, be it this machine's or a lender's."""
        return not self.source

    @property
    def origin(self) -> str:
        """The benchmark's name; ``assumption: `` and the reason; ``borrowed from`` a profile, why, and its origin."""
        there = f"assumption: {self.basis}" if self.assumed else self.basis
        return f"borrowed from {self.lender}: {self.why}; there {there}" if self.lender else there

    def ps(self, khz: int) -> Fraction:
        """Picoseconds at a clock."""
        return self.cycles * Fraction(10**9, khz) + self.ns * 1000


class Profile:
    """Costs of one machine's operations, from a :class:`driver_model.cpu.profile_file.ProfileFile`.

    What the known operations of a benchmark's loop leave of its result is the cost of those that it is solved for. A
    borrowed cost is that of the lender's own assumption or benchmark: its cycles stay cycles, at this machine's clock,
    and its nanoseconds stay nanoseconds. Two profiles may borrow from each other, as long as no operation depends on
    itself. A composed profile is one that only borrows.

    ``where`` names the file in messages; lenders are in ``folder``. Raises :class:`ProfileError`.
    """

    def __init__(self, text: str, where: str = "profile", folder: Path = FOLDER) -> None:
        file = ProfileFile(text, where)
        solver = _Solver(file, folder)
        self.name = file.name
        self.machine = file.machine
        self.khz = file.khz
        self.coherent = file.coherent  #: whether devices see what is in the CPU's caches
        self.ddio = file.ddio  #: whether what devices write goes into the last level cache
        self.composed = not file.defined
        self._costs = {operation: solver.cost(file, operation) for operation in solver.operations(file)}
        self._benchmarks = tuple(file.benchmarks)
        for benchmark in self._benchmarks:
            for operation in benchmark.loop:
                if operation not in self._costs:
                    raise ProfileError(f"{file.where}: {benchmark.name!r} uses {operation!r}, which has no cost")
        self.digest = solver.digest  #: of the file and of those borrowed from, for results
        self._ps = {operation: round(cost.ps(self.khz)) for operation, cost in self._costs.items()}

    @classmethod
    def load(cls, name: str, folder: Path = FOLDER) -> Profile:
        """A profile that comes with Pagewheel. Raises ``ValueError`` if there is none of that name."""
        path = ProfileFile.path(name, folder)
        return cls(path.read_text(encoding="utf-8"), path.name, folder)

    @staticmethod
    def names() -> list[str]:
        """Profiles that come with Pagewheel."""
        return ProfileFile.names()

    def clocked(self, khz: int) -> Profile:
        """The same machine at another clock: cycles stay cycles, and nanoseconds stay nanoseconds. Its benchmarks are
        still those that were measured at its own."""
        if not isinstance(khz, int) or isinstance(khz, bool):
            raise TypeError(f"khz must be an integer, not {khz!r}")
        if khz < 1:
            raise ValueError(f"khz must be 1 or more, not {khz!r}")
        other = copy(self)
        other.khz = khz
        other._ps = {operation: round(cost.ps(khz)) for operation, cost in self._costs.items()}
        return other

    @property
    def costs(self) -> Mapping[str, Cost]:
        """Cost of each operation."""
        return MappingProxyType(self._costs)

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """Every benchmark of the machine, and every check after them."""
        return self._benchmarks

    def ps(self, name: str) -> int:
        """Picoseconds of an operation, rounded once. Raises ``KeyError`` for one that the profile does not have."""
        if name not in self._ps:
            raise KeyError(f"Profile {self.name} has no cost for {name!r}; it has {', '.join(sorted(self._ps))}")
        return self._ps[name]


class _Solver:
    """Costs of one profile's operations and, where it borrows, of its lenders': each is solved when it is asked for."""

    def __init__(self, file: ProfileFile, folder: Path) -> None:
        self._folder = folder
        self._files = {file.name: file}
        self._costs: dict[tuple[str, str], Cost] = {}
        self._open: list[tuple[str, str]] = []

    @property
    def digest(self) -> str:
        own, *lenders = self._files.values()
        texts = [own.text, *(file.text for file in sorted(lenders, key=lambda file: file.name))]
        return hashlib.sha256("".join(texts).encode()).hexdigest()

    def operations(self, file: ProfileFile) -> list[str]:
        """What a profile has a cost for: its own operations, then the borrowed ones."""
        names = dict.fromkeys(file.defined)
        for borrow in file.borrows:
            lender = self._lender(file, borrow)
            for pattern in borrow.patterns:
                found = [each for each in lender.defined if Borrow("", (pattern,), "").covers(each)]
                if not found:
                    raise ProfileError(f"{file.where}: {borrow.lender} itself defines nothing that is {pattern!r}")
                names |= dict.fromkeys(found)
        return list(names)

    def cost(self, file: ProfileFile, operation: str) -> Cost:
        """Raises :class:`ProfileError` for an operation that has no cost, or depends on itself."""
        key = file.name, operation
        if key not in self._costs:
            if key in self._open:
                circle = [*self._open[self._open.index(key) :], key]
                chain = " <- ".join(f"{name} of {profile}" for profile, name in circle)
                raise ProfileError(f"{file.where}: {operation!r} depends on itself: {chain}")
            self._open.append(key)
            if operation in file.assumptions:
                assumed = file.assumptions[operation]
                self._costs[key] = Cost(assumed.cycles, assumed.ns, assumed.reason)
            elif operation in file.solved:
                self._solve(file, file.solved[operation])
            else:
                self._costs[key] = self._borrowed(file, operation)
            self._open.pop()
        return self._costs[key]

    def _solve(self, file: ProfileFile, benchmark: Benchmark) -> None:
        """Costs of all that a benchmark is solved for."""
        khz, loop, split = file.khz, benchmark.loop, benchmark.split
        known = sum(count * self.cost(file, name).ps(khz) for name, count in loop.items() if name not in split)
        rest = benchmark.ps - known
        if rest <= 0:
            raise ProfileError(
                f"{file.where}: benchmark {benchmark.name!r}: known operations take {float(known):.0f} of "
                f"{float(benchmark.ps):.0f} ps"
            )
        for name, share in split.items():
            ps = rest * share / sum(split.values()) / loop[name]
            in_ns = benchmark.solve_for == "ns"
            cycles, ns = (Fraction(0), ps / 1000) if in_ns else (ps * Fraction(khz, 10**9), Fraction(0))
            self._costs[file.name, name] = Cost(cycles, ns, benchmark.name, benchmark.source)

    def _borrowed(self, file: ProfileFile, operation: str) -> Cost:
        for borrow in file.borrows:
            lender = self._lender(file, borrow)
            if borrow.covers(operation) and operation in lender.defined:
                return replace(self.cost(lender, operation), lender=lender.name, why=borrow.reason)
        raise ProfileError(f"{file.where}: {operation!r} has no cost")

    def _lender(self, file: ProfileFile, borrow: Borrow) -> ProfileFile:
        if borrow.lender not in self._files:
            try:
                self._files[borrow.lender] = ProfileFile.read(borrow.lender, self._folder)
            except ValueError as error:
                raise ProfileError(f"{file.where}: borrow: {error}") from None
        return self._files[borrow.lender]
