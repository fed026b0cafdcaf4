# SPDX-License-Identifier: BSD-2-Clause
"""Published figures that results are compared with. Nothing is solved from them or fitted to them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

FOLDER = Path(__file__).parent / "published"
REQUIRED = {"id", "unit", "machine", "source"}
OPTIONAL = {"value", "values", "recalled", "note"}


class PublishedError(ValueError):
    """A file of published figures that leaves something open, or says it twice."""


@dataclass(frozen=True)
class Figure:
    """One published value.

    Attributes
    ----------
    id : name of the figure, such as ``slub.bulk.32``
    value, unit : as published
    machine : the cost profile's name where there is one of it, else in words
    source : where it is published
    recalled : not re-read in its source: shown, but nothing is judged by it
    note : what else there is to know of it
    """

    id: str
    value: float
    unit: str
    machine: str
    source: str
    recalled: bool
    note: str


def read_figures(text: str, where: str = "figures") -> list[Figure]:
    """Figures of a TOML text: entries ``[[figure]]`` with ``id``, ``unit``, ``machine``, ``source`` and, if needed,
    ``recalled`` and ``note``, and with either ``value`` or ``values``, a table of which each key continues the id, and
    the source at ``{}``.

    ``where`` names the text in messages. Raises :class:`PublishedError`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PublishedError(f"{where}: {error}") from None
    if set(table) != {"figure"}:
        raise PublishedError(f"{where} must have entries figure and nothing else, not {', '.join(table) or 'nothing'}")
    return [figure for entry in table["figure"] for figure in _figures(entry, where)]


@cache
def published() -> Mapping[str, Figure]:
    """All figures that come with Pagewheel, by id."""
    found: dict[str, Figure] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        for figure in read_figures(path.read_text(encoding="utf-8"), path.name):
            if figure.id in found:
                raise PublishedError(f"{path.name}: there are two figures {figure.id!r}")
            found[figure.id] = figure
    return MappingProxyType(found)


def figure(name: str) -> Figure:
    """The figure of an id. Raises ``KeyError`` if there is none."""
    if name not in published():
        raise KeyError(f"No published figure is called {name!r}; there are {', '.join(sorted(published()))}")
    return published()[name]


def _figures(entry: Mapping[str, Any], where: str) -> list[Figure]:
    where = f"{where}: figure {entry.get('id')!r}"
    for key in entry:
        if key not in REQUIRED | OPTIONAL:
            raise PublishedError(
                f"{where} has an unknown entry {key!r}; known are {', '.join(sorted(REQUIRED | OPTIONAL))}"
            )
    for key in sorted(REQUIRED):
        if not entry.get(key):
            raise PublishedError(f"{where} lacks {key!r}")
    if ("value" in entry) == ("values" in entry):
        raise PublishedError(f"{where} must have either value or values")
    values = entry["values"] if "values" in entry else {"": entry["value"]}
    figures = []
    for key, value in values.items():
        name = f"{entry['id']}.{key}" if key else entry["id"]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PublishedError(f"{where}: the value of {name} must be a number, not {value!r}")
        source = entry["source"].replace("{}", key)
        known = name, float(value), entry["unit"], entry["machine"], source
        figures.append(Figure(*known, bool(entry.get("recalled", False)), entry.get("note", "")))
    return figures
