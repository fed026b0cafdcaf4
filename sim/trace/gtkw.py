# SPDX-License-Identifier: BSD-2-Clause
"""A GTKWave save file for the waves of a machine: a packet's path in groups, states by name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from vcd.gtkw import GTKWSave

CLOCK = "clk"
MAX_SIGNALS = 12  #: of a group; more would not fit a screen


class Variable(NamedTuple):
    """A variable of a wave file."""

    path: tuple[str, ...]
    width: int

    @property
    def reference(self) -> str:
        """As GTKWave names it."""
        suffix = f"[{self.width - 1}:0]" if self.width > 1 else ""
        return ".".join(self.path) + suffix


#: A packet's way, in its order: title, and what a variable's path below the machine looks like.
GROUPS = (
    ("wire, receive", r"device\.wire_rx__(valid|ready|p(ayload)?__(first|last|count|data|error|serial))"),
    ("packet buffer, receive", r"device\.rx\.(buffer|packet_buffer)\..*(valid|ready|level|drop|commit)"),
    ("descriptors", r"device\..*(fetch|cache).*\.(available|fetching|take|take_count|queue)"),
    ("DMA, write", r"device\.axi__(aw|w|b)__(valid|ready|p(ayload)?__(addr|len|data|strb|last|resp))"),
    ("DMA, read", r"device\.axi__(ar|r)__(valid|ready|p(ayload)?__(addr|len|data|last|resp))"),
    ("completions", r"device\..*(completion|published).*(strobe|valid|ready|producer|count|queue)"),
    ("interrupt", r"device\.(interrupt__(valid|ready|p(ayload)?))|host_interrupt__valid"),
    ("wire, transmit", r"device\.wire_tx__(valid|ready|p(ayload)?__(first|last|count|data|error|serial))"),
    ("states", r"device\..*(fsm_state|state)"),
)


def variables(header: TextIO) -> Iterator[Variable]:
    """The variables that the header of a VCD file declares."""
    scopes: list[str] = []
    for line in header:
        words = line.split()
        match words[:1]:
            case ["$scope"]:
                scopes.append(words[2])
            case ["$upscope"]:
                scopes.pop()
            case ["$var"]:
                yield Variable((*scopes, words[4]), int(words[2]))
            case ["$enddefinitions"]:
                return


def write_save_file(waves: Path) -> Path:
    """Write the save file beside a VCD file; returns its path.

    Raises ``ValueError`` if the waves are not those of a machine.
    """
    with waves.open() as header:
        found = list(variables(header))
    save = waves.with_suffix(".gtkw")
    with save.open("w") as file:
        gtkw = GTKWSave(file)
        gtkw.dumpfile(str(waves.absolute()))
        gtkw.treeopen("")
        clock = next((variable for variable in found if variable.path[-1] == CLOCK), None)
        if clock is not None:
            gtkw.trace(clock.reference)
        matched = 0
        for title, pattern in GROUPS:
            expression = re.compile(rf"(.*\.)?{pattern}")
            chosen = [variable for variable in found if expression.fullmatch(".".join(variable.path))][:MAX_SIGNALS]
            matched += len(chosen)
            if chosen:
                with gtkw.group(title):
                    for variable in chosen:
                        gtkw.trace(variable.reference, datafmt="hex" if variable.width > 1 else "bin")
        if not matched:
            raise ValueError(f"Waves {str(waves)!r} hold none of a machine's signals")
    return save
