# SPDX-License-Identifier: BSD-2-Clause
"""Frame sizes: of a flood, of a mix, or from a distribution.

Sizes are given as on the wire, with the FCS, as is usual: 64 to 9,220 bytes. Memory never sees the FCS, so a frame's
length there is 4 bytes less.
"""

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from hw.abi.registers import MAX_FRAME
from sim.traffic.pacing import FCS_BYTES, MIN_FRAME

MIN_WIRE_SIZE = MIN_FRAME + FCS_BYTES
MAX_WIRE_SIZE = MAX_FRAME + FCS_BYTES
MAX_ROUND = 100_000


def _check_size(size: int) -> None:
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"A frame's size must be an integer, not {size!r}")
    if not MIN_WIRE_SIZE <= size <= MAX_WIRE_SIZE:
        raise ValueError(f"A frame's size on the wire must be in {MIN_WIRE_SIZE}..{MAX_WIRE_SIZE} bytes, not {size!r}")


class Sizes(ABC):
    """A sequence of frame sizes without end."""

    @abstractmethod
    def lengths(self, seed: int) -> Iterator[int]:
        """Lengths in memory (without FCS) of frame after frame; the same seed gives the same sequence."""


class Mix(Sizes):
    """Sizes by weight, exactly: of every ``sum(weights)`` frames each size has its share, in shuffled order."""

    def __init__(self, weights: Mapping[int, int]) -> None:
        if not weights:
            raise ValueError("A mix of sizes must name at least one size")
        for size, weight in weights.items():
            _check_size(size)
            if not isinstance(weight, int) or not 1 <= weight <= MAX_ROUND:
                raise ValueError(f"The weight of size {size} must be an integer in 1..{MAX_ROUND}, not {weight!r}")
        self.weights = dict(weights)

    def lengths(self, seed: int) -> Iterator[int]:
        rng = random.Random(seed)
        frames = [size - FCS_BYTES for size, weight in self.weights.items() for _ in range(weight)]
        while True:
            rng.shuffle(frames)
            yield from frames


class Uniform(Sizes):
    """Every size from ``low`` to ``high`` with the same probability."""

    def __init__(self, low: int, high: int) -> None:
        _check_size(low)
        _check_size(high)
        if low > high:
            raise ValueError(f"Sizes must go from the smaller to the larger, not from {low!r} to {high!r}")
        self.low, self.high = low, high

    def lengths(self, seed: int) -> Iterator[int]:
        rng = random.Random(seed)
        while True:
            yield rng.randint(self.low, self.high) - FCS_BYTES


IMIX = Mix({64: 7, 594: 4, 1518: 1})  # mean 362 bytes
INTERNET = Mix({64: 15, 576: 4, 1518: 2})  # mean 300 bytes
NAMED: Mapping[str, Sizes] = {"imix": IMIX, "internet": INTERNET}
FORMS = "a size in bytes (64), imix, internet, weights (64:7,594:4,1518:1) or a range (64-1518)"


def parse_sizes(text: str) -> Sizes:
    """Sizes from their name. Raises ``ValueError`` that lists the forms."""
    if text in NAMED:
        return NAMED[text]
    if re.fullmatch(r"\d+", text):
        return Mix({int(text): 1})
    if match := re.fullmatch(r"(\d+)-(\d+)", text):
        return Uniform(int(match[1]), int(match[2]))
    if re.fullmatch(r"\d+:\d+(,\d+:\d+)*", text):
        weights: dict[int, int] = {}
        for part in text.split(","):
            size, weight = map(int, part.split(":"))
            weights[size] = weights.get(size, 0) + weight
        return Mix(weights)
    raise ValueError(f"Frame sizes must be {FORMS}, not {text!r}")
