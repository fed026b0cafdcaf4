# SPDX-License-Identifier: BSD-2-Clause
"""Rings as arrays do what the rings of the driver do."""

import numpy as np
import pytest

from hw.abi.codec import Codec
from hw.abi.rings import ENTRY_BYTES, INDEX_BITS, RxCompletion
from sim.line_rate.rings import CompletionRing, DescriptorRing, column

CODEC = Codec(RxCompletion)
ENTRIES = 8


def entry(number: int) -> bytes:
    """A completion with the phase bit of its pass."""
    return CODEC.pack(buffer_id=number & 0xFFFF, flags=CODEC.mask("flags", "phase") * (1 - number // ENTRIES % 2))


def test_completions_are_taken_once_lap_after_lap() -> None:
    memory = np.zeros(1024, np.uint8)
    ring = CompletionRing(memory, 256, ENTRIES)
    written = taken = 0
    for step in [0, 3, 8, 1, 7, 8, 5] * 3000:
        for number in range(written, written + step):
            at = 256 + number % ENTRIES * ENTRY_BYTES
            memory[at : at + ENTRY_BYTES] = np.frombuffer(entry(number), np.uint8)
        written += step
        found = column(ring.take(), CODEC, "buffer_id")
        assert [*found] == [number & 0xFFFF for number in range(taken, written)]
        taken = written
    assert written > 1 << INDEX_BITS
    assert ring.consumed == written % (1 << INDEX_BITS)


def test_descriptors_follow_one_another_around_the_ring() -> None:
    memory = np.zeros(1024, np.uint8)
    ring = DescriptorRing(memory, 512, ENTRIES)
    entries = np.arange(16 * ENTRY_BYTES, dtype=np.uint8).reshape(16, ENTRY_BYTES)
    ring.post(entries[:6])
    ring.post(entries[6:11])
    slots = memory[512 : 512 + ENTRIES * ENTRY_BYTES].reshape(ENTRIES, ENTRY_BYTES)
    assert (slots == entries[[8, 9, 10, 3, 4, 5, 6, 7]]).all()
    assert not memory[:512].any()
    assert ring.produced == 11


def test_only_whole_words_are_columns() -> None:
    entries = np.zeros((2, ENTRY_BYTES), np.uint8)
    column(entries, CODEC, "rss_hash")[:] = (1, 0x01020304)
    assert CODEC.unpack(entries[1].tobytes()).rss_hash == 0x01020304
    with pytest.raises(ValueError, match="Field error of RxCompletion is no aligned word: 4 bits at bit 112"):
        column(entries, CODEC, "error")


@pytest.mark.parametrize("entries", [7, 4, 1 << 16])
def test_sizes_are_those_of_rings(entries: int) -> None:
    with pytest.raises(ValueError, match=f"entries must be a power of two.*{entries}"):
        CompletionRing(np.zeros(64, np.uint8), 0, entries)
