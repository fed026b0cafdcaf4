# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of experiments and machines by name, as ``--set key=value`` gives them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import NoneType
from typing import Any, get_args, get_type_hints

from driver_model.own import is_own
from sim.host.link_config import LinkConfig, link_preset


class SettingError(ValueError):
    """A name or a value on the command line that is not allowed; the message says what is."""


@dataclass(frozen=True)
class Setting:
    """One parameter of an experiment.

    Attributes
    ----------
    default : its value, whose type (int, bool, str, or tuple of str) is the parameter's
    help : one line
    choices : what is allowed, or empty; of each element of a tuple
    own : beside these, code of one's own is, see :mod:`driver_model.own`
    low, high : bounds of an integer
    """

    default: int | bool | str | tuple[str, ...]
    help: str
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 1 << 32
    own: bool = False

    def parse(self, name: str, text: str) -> Any:
        """The value that a text stands for."""
        if isinstance(self.default, tuple):
            return tuple(self._choice(name, part) for part in text.split("+"))
        if isinstance(self.default, bool):
            if text not in ("on", "off"):
                raise SettingError(f"Parameter {name} must be on or off, not {text!r}")
            return text == "on"
        if isinstance(self.default, int):
            value = parse_integer(name, text)
            if not self.low <= value <= self.high:
                raise SettingError(f"Parameter {name} must be in {self.low}..{self.high}, not {text!r}")
            return value
        return self._choice(name, text)

    def _choice(self, name: str, text: str) -> str:
        if self.choices and text not in self.choices and not (self.own and is_own(text)):
            known = ", ".join(self.choices) + (", FILE.py:NAME" if self.own else "")
            raise SettingError(f"Parameter {name} must be one of {known}, not {text!r}")
        return text


def parse_integer(name: str, text: str) -> int:
    """An integer, decimal with separators or hexadecimal."""
    try:
        return int(text, 0)
    except ValueError:
        raise SettingError(f"Parameter {name} must be an integer, not {text!r}") from None


def split(assignments: Iterable[str]) -> dict[str, str]:
    """``key=value`` texts as a mapping; of a key given twice the last counts."""
    result = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise SettingError(f"A parameter is set as key=value, not {text!r}")
        result[key] = value
    return result


def resolve(settings: Mapping[str, Setting], given: Mapping[str, str]) -> dict[str, Any]:
    """Every setting's value: what is given, else the default. Raises :class:`SettingError` for an unknown name."""
    for name in given:
        if name not in settings:
            raise SettingError(f"There is no parameter {name!r}; there are {', '.join(settings)}, and the machine's")
    return {
        name: setting.parse(name, given[name]) if name in given else setting.default
        for name, setting in settings.items()
    }


def changed(config: Any, key: str, text: str, within: str = "") -> Any:
    """A copy of a configuration (a dataclass) with one parameter set, ``part.name`` for one of a part.

    A part that has presets, such as ``link``, also takes the name of one; a part that is not there, such as ``iommu``,
    begins with its defaults. Raises :class:`SettingError` that lists what there is, or the configuration's own error
    for a value it refuses. ``within`` names the configuration in messages where it is itself a part: ``iommu.tlb_4k``.
    """
    name, dot, rest = key.partition(".")
    known = [field.name for field in fields(config) if field.init]
    full = f"{within}.{name}" if within else name
    if name not in known:
        raise SettingError(f"There is no parameter {full!r}; {within or 'the machine'} has {', '.join(known)}")
    current = getattr(config, name)
    if current is None:
        current = _absent(config, name)
    if dot:
        if not is_dataclass(current):
            raise SettingError(f"Parameter {full} has no parts, so not {rest!r} either")
        value = changed(current, rest, text, full)
    elif isinstance(current, LinkConfig):
        value = link_preset(text)
    elif is_dataclass(current):
        parts = ", ".join(f"{full}.{field.name}" for field in fields(current))
        raise SettingError(f"Parameter {full} has parts: set one of {parts}, not {full}={text}")
    else:
        value = _like(current, full, text)
    try:
        return replace(config, **{name: value})
    except (ValueError, TypeError) as error:
        if within and str(error).partition(" ")[0] in known:
            raise type(error)(f"{within}.{error}") from None
        raise


def _absent(config: Any, name: str) -> Any:
    """What an optional parameter without a value begins with: the defaults of its part, or its type's zero."""
    kinds = get_args(get_type_hints(type(config))[name])
    return next(kind for kind in kinds if kind is not NoneType)()


def _like(current: Any, name: str, text: str) -> Any:
    if isinstance(current, bool):
        return Setting(current, "").parse(name, text)
    if isinstance(current, int):
        return parse_integer(name, text)
    if isinstance(current, float):
        try:
            return float(text)
        except ValueError:
            raise SettingError(f"Parameter {name} must be a number, not {text!r}") from None
    return text
