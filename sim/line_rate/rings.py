# SPDX-License-Identifier: BSD-2-Clause
"""Rings as arrays: many entries written, or read, at a time."""

import numpy as np

from driver_model.drivers.ring import check_entries
from hw.abi.codec import Codec
from hw.abi.rings import ENTRY_BYTES, INDEX_BITS

_WIDTHS = (8, 16, 32, 64)
_PHASE_BITS = 7  #: below the phase, in the last byte


def column(entries: np.ndarray, codec: Codec, name: str) -> np.ndarray:
    """One field of an array of entries, as a view; it must be an aligned word of 8, 16, 32 or 64 bits."""
    offset, width = codec.fields[name]
    if width not in _WIDTHS or offset % width:
        raise ValueError(f"Field {name} of {codec.name} is no aligned word: {width!r} bits at bit {offset!r}")
    return entries.view(np.dtype(f"<u{width // 8}"))[:, offset // width]


class _Ring:
    def __init__(self, memory: np.ndarray, base: int, entries: int):
        check_entries("entries", entries)
        self.base = base
        self.entries = entries
        self._slots = memory[base : base + entries * ENTRY_BYTES].reshape(entries, ENTRY_BYTES)


class DescriptorRing(_Ring):
    """A ring that software fills.

    Attributes
    ----------
    produced : free-running index one past the last descriptor
    """

    produced = 0

    def post(self, descriptors: np.ndarray) -> None:
        """Write descriptors behind the others; there must be room."""
        places = (self.produced + np.arange(len(descriptors))) % self.entries
        self._slots[places] = descriptors
        self.produced = (self.produced + len(descriptors)) % (1 << INDEX_BITS)


class CompletionRing(_Ring):
    """A ring that the NIC fills; memory is zero at first.

    Attributes
    ----------
    consumed : free-running index one past the last completion taken
    """

    consumed = 0

    def take(self) -> np.ndarray:
        """A copy of the completions that came since the last call, in order."""
        index = self.consumed + np.arange(self.entries)
        places = index % self.entries
        phase = self._slots[places, ENTRY_BYTES - 1] >> _PHASE_BITS
        fresh = phase != (index // self.entries & 1)
        count = self.entries if fresh.all() else int(np.argmin(fresh))
        self.consumed = (self.consumed + count) % (1 << INDEX_BITS)
        return self._slots[places[:count]]
