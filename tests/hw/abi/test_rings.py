# SPDX-License-Identifier: BSD-2-Clause
"""The bits of ring entries: what two sides of a memory interface may rely on."""

import pytest
from amaranth.lib import data

from hw.abi.rings import (
    ENTRIES_PER_LINE,
    ENTRY_BYTES,
    LINE_BYTES,
    Arm,
    FillDescriptor,
    RxCompletion,
    RxCompletionFlags,
    RxDoorbell,
    TxCompletion,
    TxCompletionFlags,
    TxContext,
    TxDataFlags,
    TxDescriptor,
    TxDoorbell,
)

ENTRIES = [FillDescriptor, RxCompletion, TxDescriptor, TxContext, TxCompletion]


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_fill_16_bytes_and_four_a_line(entry):
    assert data.Layout.cast(entry).size == 8 * ENTRY_BYTES
    assert ENTRIES_PER_LINE * ENTRY_BYTES == LINE_BYTES


@pytest.mark.parametrize(("entry", "flags"), [(RxCompletion, RxCompletionFlags), (TxCompletion, TxCompletionFlags)])
def test_phase_is_the_last_bit_of_the_last_byte(entry, flags):
    place = data.Layout.cast(entry)["flags"].offset + data.Layout.cast(flags)["phase"].offset
    assert place == 8 * ENTRY_BYTES - 1


@pytest.mark.parametrize("flags", [RxCompletionFlags, TxCompletionFlags, TxDataFlags])
def test_flags_are_a_byte(flags):
    assert data.Layout.cast(flags).size == 8


def test_a_tx_type_has_one_place_whatever_the_type():
    assert data.Layout.cast(TxDescriptor)["type"].offset == data.Layout.cast(TxContext)["type"].offset


@pytest.mark.parametrize("word", [RxDoorbell, TxDoorbell, Arm])
def test_a_doorbell_is_one_register_write(word):
    assert data.Layout.cast(word).size <= 64
