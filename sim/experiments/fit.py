# SPDX-License-Identifier: BSD-2-Clause
"""Fits: a machine's structure where it is known from a published curve only, and what was published."""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hw.config import IOMMU_CACHES, CacheConfig, IommuConfig
from sim.host.dram_config import DramConfig
from sim.report import KINDS

FOLDER = Path(__file__).parent / "fits"
KIB = 1024
ENTRIES = {"name", "machine", "source", "windows", "input", "structure", "curve"}
STRUCTURE = {"iommu", "dram", "load"}
LOAD = {"ids", "outstanding"}


class FitError(ValueError):
    """A fit that leaves something open, or has what nobody knows."""


@dataclass(frozen=True)
class Curve:
    """Published values of one quantity over the window, in bytes."""

    request: str
    pages: str
    quantity: str
    kind: str
    values: Mapping[int, float]


class Fit:
    """A fit is a TOML file: ``name``, ``machine``, ``source``, ``windows`` (KiB), and

    - ``[[input]]``: ``request`` and the ``bandwidth``, in Gbit/s, that the device never exceeds with it;
    - ``[structure]``: ``iommu`` and ``dram``, parameters of :class:`hw.config.IommuConfig` and
      :class:`sim.host.dram_config.DramConfig`, and ``load``, of :class:`sim.host.load_client.Load`;
    - ``[[curve]]``: ``request``, ``pages``, ``quantity``, ``kind`` as of :class:`sim.report.Row`, ``values``, and
      ``windows`` if they are others. Only the inputs and the curves of kinds ``fit`` and ``input`` went into the rest.

    ``where`` names the file in messages. Raises :class:`FitError`.
    """

    def __init__(self, text: str, where: str = "fit") -> None:
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise FitError(f"{where}: {error}") from None
        _only(table, ENTRIES, where)
        _only(table["structure"], STRUCTURE, f"{where}: structure")
        _only(table["structure"]["load"], LOAD, f"{where}: structure: load")
        self.name: str = table["name"]
        self.machine: str = table["machine"]
        self.source: str = table["source"]
        self.digest = hashlib.sha256(text.encode()).hexdigest()  #: of the file, for results
        self.windows: tuple[int, ...] = tuple(KIB * window for window in table["windows"])  #: bytes
        self.inputs: Mapping[str, float] = MappingProxyType(
            {entry["request"]: entry["bandwidth"] for entry in table["input"]}
        )
        self.load: Mapping[str, int] = MappingProxyType(table["structure"]["load"])
        self._dram: dict[str, Any] = table["structure"]["dram"]
        self._iommu: dict[str, Any] = table["structure"]["iommu"]
        _known(self._dram, DramConfig, where)
        _known(self._iommu, IommuConfig, where)
        self.curves = tuple(self._curve(entry, where) for entry in table["curve"])

    @classmethod
    def load_file(cls, name: str) -> "Fit":
        """A fit that comes with Pagewheel. Raises ``ValueError`` if there is none of that name."""
        if name not in cls.names():
            raise ValueError(f"Fit must be one of {', '.join(cls.names())}, not {name!r}")
        path = FOLDER / f"{name}.toml"
        return cls(path.read_text(encoding="utf-8"), path.name)

    @staticmethod
    def names() -> list[str]:
        """Fits that come with Pagewheel."""
        return sorted(path.stem for path in FOLDER.glob("*.toml"))

    @property
    def iommu(self) -> IommuConfig:
        """The IOMMU."""
        changes: dict[str, Any] = {
            name: CacheConfig(**value) if name in IOMMU_CACHES else value for name, value in self._iommu.items()
        }
        return IommuConfig(**changes)

    def dram(self, base: DramConfig) -> DramConfig:
        """A memory with what is known of this one's."""
        return replace(base, **self._dram)

    def curve(self, request: str, pages: str, quantity: str) -> Curve | None:
        """The published curve of a quantity, None if there is none."""
        for curve in self.curves:
            if (curve.request, curve.pages, curve.quantity) == (request, pages, quantity):
                return curve
        return None

    def _curve(self, entry: Mapping[str, Any], where: str) -> Curve:
        where = f"{where}: curve of {entry.get('quantity')!r} of {entry.get('request')!r}"
        _only(
            entry, {"request", "pages", "quantity", "kind", "values", "windows"}, where, optional=frozenset({"windows"})
        )
        if entry["kind"] not in KINDS:
            raise FitError(f"{where}: kind must be one of {', '.join(KINDS)}, not {entry['kind']!r}")
        windows = [KIB * window for window in entry["windows"]] if "windows" in entry else self.windows
        if len(windows) != len(entry["values"]):
            raise FitError(f"{where}: {len(windows)} windows have {len(entry['values'])} values")
        values = MappingProxyType(dict(zip(windows, entry["values"], strict=True)))
        return Curve(entry["request"], entry["pages"], entry["quantity"], entry["kind"], values)


def _only(table: Mapping[str, Any], known: set[str], where: str, *, optional: frozenset[str] = frozenset()) -> None:
    for key in table:
        if key not in known:
            raise FitError(f"{where} has an unknown entry {key!r}; known are {', '.join(sorted(known))}")
    for key in sorted(known - optional):
        if key not in table:
            raise FitError(f"{where} lacks {key!r}")


def _known(table: Mapping[str, Any], kind: type, where: str) -> None:
    known = {field.name for field in fields(kind)}
    for key in table:
        if key not in known:
            raise FitError(f"{where}: {kind.__name__} has no parameter {key!r}")
