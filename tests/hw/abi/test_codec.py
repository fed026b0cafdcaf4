# SPDX-License-Identifier: BSD-2-Clause
"""Software packs and unpacks exactly the hardware's bits."""

import random

import pytest
from amaranth.lib import data

from hw.abi.codec import Codec
from hw.abi.iommu import (
    AtsCommand,
    DeviceContext,
    DirectoryCommand,
    DirectoryEntry,
    FaultRecord,
    FenceCommand,
    InvalidateCommand,
    PageTableEntry,
    TranslationControl,
)
from hw.abi.rings import FillDescriptor, RxCompletion, TxCompletion, TxContext, TxDescriptor

RINGS = [FillDescriptor, RxCompletion, TxDescriptor, TxContext, TxCompletion]
IOMMU = [
    *(TranslationControl, DeviceContext, DirectoryEntry, PageTableEntry, FaultRecord),
    *(InvalidateCommand, FenceCommand, DirectoryCommand, AtsCommand),
]
ENTRIES = RINGS + IOMMU


@pytest.mark.parametrize("entry", ENTRIES)
def test_bytes_are_those_of_the_layout(entry):
    seed = 3
    print(f"seed {seed}")
    rng = random.Random(seed)
    codec = Codec(entry)
    layout = data.Layout.cast(entry)
    for _ in range(50):
        values = {name: rng.getrandbits(width) for name, (_, width) in codec.fields.items()}
        word = sum(value << layout[name].offset for name, value in values.items())
        raw = codec.pack(**values)
        assert raw == word.to_bytes(codec.size, "little")
        assert codec.unpack(raw)._asdict() == values


def test_fields_not_given_are_zero():
    assert Codec(FillDescriptor).pack(length=0x1234) == bytes(8) + b"\x34\x12" + bytes(6)


def test_mask_selects_a_nested_field():
    codec = Codec(RxCompletion)
    assert codec.mask("flags", "phase") == 0x80
    assert codec.mask("flags", "end_of_packet") == 0x01
    assert codec.mask("length") == 0xFFFF


def test_what_does_not_fit_is_refused():
    codec = Codec(FillDescriptor)
    with pytest.raises(ValueError, match=r"FillDescriptor.length must be in 0..65535, not 65536"):
        codec.pack(length=65536)
    with pytest.raises(ValueError, match="FillDescriptor has no field 'size'; it has address, length"):
        codec.pack(size=1)


def test_a_layout_of_odd_bits_is_refused():
    class Odd(data.Struct):
        value: 7

    with pytest.raises(ValueError, match="Odd is 7 bits wide, not a whole number of bytes"):
        Codec(Odd)


def test_a_layout_that_no_words_fit_is_refused():
    class Uneven(data.Struct):
        low: 4
        middle: 8
        high: 12

    with pytest.raises(ValueError, match="Fields low, middle, high cannot be cut into aligned words"):
        Codec(Uneven)
