# SPDX-License-Identifier: BSD-2-Clause
"""The parameters of a configuration: what each means, as its docstrings tell, and what it takes, as its checks do."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from sim.experiments.settings import changed

NEVER = "-1"  #: what no parameter takes
_ALLOWED = re.compile(r" must be (?:an integer in |in |one of )?(?P<allowed>.*), not ")
_ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*) : (?P<meaning>.*)")


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes
    ----------
    name : as ``--set`` takes it: ``nic.queues``
    value : its value in this configuration; of a part that is not there, ``None``
    meaning : what the class says of it, units included
    """

    name: str
    value: Any
    meaning: str


def parameters(config: Any, within: str = "") -> Iterator[Parameter]:
    """Those of a configuration (a dataclass) and of its parts, in their order."""
    meanings = attribute_meanings(type(config))
    for field in fields(config):
        if not field.init or not field.repr:
            continue
        name = f"{within}.{field.name}" if within else field.name
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from parameters(value, name)
        else:
            yield Parameter(name, value, meanings[field.name])


def allowed(config: Any, name: str) -> str:
    """What a parameter of a configuration takes, its others as they are: the configuration says so when it refuses."""
    try:
        changed(config, name, NEVER)
    except (ValueError, TypeError) as error:
        found = _ALLOWED.search(str(error))
        if found:
            return found["allowed"]
        raise
    raise ValueError(f"Parameter {name} takes even {NEVER}")


def attribute_meanings(kind: type) -> dict[str, str]:
    """What the section *Attributes* of a class's docstring says of each."""
    _, _, section = inspect.cleandoc(kind.__doc__ or "").replace("``", "").partition("Attributes\n----------\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.split("\n\n")[0].splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry:
            names = entry["names"].split(", ")
            found |= dict.fromkeys(names, entry["meaning"])
        else:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
