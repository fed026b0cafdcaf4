# SPDX-License-Identifier: BSD-2-Clause
"""A GTKWave save file for the waves of a machine: a packet's path in groups, states and reasons by name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pylibfst
from vcd.gtkw import GTKWSave, make_translation_filter

from hw.abi.rings import DropReason, QueueError, QueueState
from hw.bus.axi4 import Response


class Variable(NamedTuple):
    """A variable of a wave file. Amaranth's simulator marks names with dots in them by a backslash, and declares those
    whose values it names as strings."""

    path: str
    width: int

    @property
    def reference(self) -> str:
        """As GTKWave names it."""
        return f"{self.path}[{self.width - 1}:0]" if self.width > 1 else self.path

    @property
    def plain(self) -> str:
        """The path without marks."""
        return self.path.replace("\\", "")


_BEAT = "(valid|ready|payload.(first|last|count|data|error|serial))"
_CHANNEL = "(valid|ready|payload.(addr|id|len|data|strb|last|resp))"

#: A packet's way, in its order: title, and what a variable's path below the machine looks like. A dot is a dot.
GROUPS = (
    ("clock", "clk"),
    ("wire, receive", f"player.wire__{_BEAT}"),
    ("packet buffer, receive", "device.rx.(ingress.commit|planner.(commit|drop)|frame_event__.+|drop_event__.+)"),
    ("descriptors, receive", "device.rx.descriptors__.+"),
    ("DMA, write", f"device.axi__(aw|w|b)__{_CHANNEL}"),
    ("completions, receive", "device.rx.(slots__.+|entry__(valid|ready|payload.entry))"),
    ("interrupt", "device.interrupts.(rx_published__.+|tx_published__.+|pending|fire|interrupt__.+)"),
    ("interrupt at the host", "link.host_interrupt__.+"),
    ("descriptors, transmit", "device.tx.descriptors__.+"),
    ("DMA, read", f"device.axi__(ar|r)__{_CHANNEL}"),
    ("wire, transmit", f"recorder.wire__{_BEAT}"),
    ("queue states", r"device.(rx|tx)_lifecycle.status\[\d+\].(state|stopped|error)"),
    ("frames by number", "trace.(arrived|points)__.+"),
)

#: Variables whose values have names: the last part of the path, within which parts of it, and the names.
NAMES: tuple[tuple[str, Any, int], ...] = (
    (r".*status\[\d+\]\.state", QueueState, 2),
    (r".*status\[\d+\]\.error", QueueError, 4),
    (r".*_event__reason", DropReason, 4),
    (r".*axi__[br]__payload\.resp", Response, 2),
)


def variables(waves: Path) -> Iterator[Variable]:
    """The variables that a VCD or FST file declares."""
    if waves.suffix == ".fst":
        yield from _fst_variables(waves)
    else:
        with waves.open() as header:
            yield from _vcd_variables(header)


def _vcd_variables(header: TextIO) -> Iterator[Variable]:
    scopes: list[str] = []
    for line in header:
        words = line.split()
        match words[:1]:
            case ["$scope"]:
                scopes.append(words[2])
            case ["$upscope"]:
                scopes.pop()
            case ["$var"]:
                yield Variable(".".join((*scopes, words[4])), int(words[2]))
            case ["$enddefinitions"]:
                return


def _fst_variables(waves: Path) -> Iterator[Variable]:
    context = pylibfst.lib.fstReaderOpen(str(waves).encode())
    if context == pylibfst.ffi.NULL:
        raise ValueError(f"Waves {str(waves)!r} cannot be read as FST")
    try:
        _, signals = pylibfst.get_scopes_signals2(context)
    finally:
        pylibfst.lib.fstReaderClose(context)
    for signal in signals.by_name.values():
        yield Variable(signal.name.split(" ")[0], signal.length)


def write_save_file(waves: Path) -> Path:
    """Write the save file beside a VCD or FST file, with a file of names for each kind of state; returns its path.

    Raises ``ValueError`` if the waves are not those of a machine.
    """
    found = list(variables(waves))
    groups = {title: _matching(found, pattern) for title, pattern in GROUPS}
    if not any(groups.values()):
        raise ValueError(f"Waves {str(waves)!r} hold none of a machine's signals")
    save = waves.with_suffix(".gtkw")
    with save.open("w") as file:
        gtkw = GTKWSave(file)
        gtkw.dumpfile(str(waves.absolute()))
        for title, chosen in groups.items():
            if not chosen:
                continue
            with gtkw.group(title):
                for variable in chosen:
                    gtkw.trace(
                        variable.reference,
                        datafmt="hex" if variable.width > 1 else "bin",
                        translate_filter_file=_names(variable, waves.parent),
                    )
    return save


def _matching(found: list[Variable], pattern: str) -> list[Variable]:
    dots = re.sub(r"(?<!\\)\.(?!\+)", r"\\.", pattern)
    expression = re.compile(rf"(.*\.)?machine\.{dots}")
    return [variable for variable in found if "$" not in variable.path and expression.fullmatch(variable.plain)]


def _names(variable: Variable, folder: Path) -> str | None:
    """A file with the names of a variable's values; None if they have none."""
    for pattern, values, width in NAMES:
        if variable.width == width and re.fullmatch(pattern, variable.plain):
            path = folder / f"{values.__name__}.names"
            translations = [(value.value, name) for name, value in values.__members__.items()]
            path.write_text(make_translation_filter(translations, datafmt="hex", size=width) + "\n")
            return str(path.absolute())
    return None
