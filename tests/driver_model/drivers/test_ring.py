# SPDX-License-Identifier: BSD-2-Clause
"""The driver's compiled formats against the hardware's own layouts, and rings that wrap."""

import random
from struct import Struct
from typing import Any

import pytest

from driver_model.drivers import ring
from driver_model.drivers.ring import CompletionRing, DescriptorRing, pack_fill, pack_tx
from hw.abi.codec import Codec
from hw.abi.rings import (
    CompletionError,
    FillDescriptor,
    RxCompletion,
    TxCompletion,
    TxDescriptor,
    TxDescriptorType,
)
from tests.driver_model.bench import Bench


def test_descriptors_are_packed_as_the_hardware_reads_them() -> None:
    fill = Codec(FillDescriptor).unpack(pack_fill(0x1122334455667788, 0x99AA, 0xBBCC))
    assert (fill.address, fill.length, fill.buffer_id, fill.reserved) == (0x1122334455667788, 0x99AA, 0xBBCC, 0)
    codec = Codec(TxDescriptor)
    for control, names in (
        (ring.TX_DATA, ()),
        (ring.TX_END_OF_PACKET, ("end_of_packet",)),
        (ring.TX_END_OF_PACKET | ring.TX_REPORT, ("end_of_packet", "report")),
    ):
        got = codec.unpack(pack_tx(0x1122334455667788, 0x99AA, 0xBBCC, control))
        assert (got.address, got.length, got.buffer_id) == (0x1122334455667788, 0x99AA, 0xBBCC)
        assert got.type == TxDescriptorType.DATA.value
        assert got.flags == sum(codec.mask("flags", name) for name in names)


@pytest.mark.parametrize(
    ("layout", "format_", "order"),
    [
        (
            RxCompletion,
            ring.RX_FORMAT,
            ("buffer_id", "length", "rss_hash", "checksum", "vlan", "header_length", "packet_type", "error", "flags"),
        ),
        (TxCompletion, ring.TX_DONE_FORMAT, ("buffer_id", "index", None, None, None, "error", "flags")),
    ],
)
def test_completions_are_read_as_the_hardware_writes_them(layout: Any, format_: Struct, order: tuple[str, ...]) -> None:
    codec = Codec(layout)
    for name in codec.fields:
        if name.startswith("reserved") or name == "hash_ports":
            continue  # the latter shares a byte: below
        value = (1 << codec.fields[name][1]) - 1
        got = dict(zip(order, format_.unpack(codec.pack(**{name: value})), strict=True))
        assert got.pop(name) == value
        assert not any(got.values()), f"bits of {name} appear elsewhere"


def test_masks() -> None:
    assert Codec(RxCompletion).mask("flags", "end_of_packet") == ring.RX_END_OF_PACKET
    assert CompletionError.WRITE_FAULT.value == ring.WRITE_FAULT
    assert (1 << Codec(TxCompletion).fields["error"][1]) - 1 == ring.ERROR_MASK
    assert ring.RX_FORMAT.unpack(Codec(RxCompletion).pack(hash_ports=1)) == (0,) * 7 + (ring.RX_HASH_PORTS, 0)
    assert not ring.RX_HASH_PORTS & ring.ERROR_MASK
    assert Codec(RxCompletion).mask("flags", "phase") == Codec(TxCompletion).mask("flags", "phase")


def test_descriptors_wrap() -> None:
    bench = Bench()
    written: list[bytes] = []

    def use() -> None:
        fill = DescriptorRing(bench.host.devices[0], 8)
        fill.producer = (1 << 16) - 3
        batch = [pack_fill(number, 1, 0) for number in range(1, 8)]
        fill.write(batch)
        assert fill.producer == 4
        memory = bench.core.load(fill.memory.address, 128)
        written.extend(memory[at : at + 16] for at in range(0, 128, 16))
        assert [written[(5 + number) % 8] for number in range(7)] == batch
        assert written[4] == bytes(16)
        fill.free()

    bench.run(use)
    assert written


@pytest.mark.parametrize("entries", [8, 32])
def test_completions_are_taken_once_each_through_many_passes(entries: int) -> None:
    seed = 5
    print(f"seed {seed}")
    rng = random.Random(seed)
    bench = Bench()
    codec = Codec(RxCompletion)

    def use() -> None:
        completions = CompletionRing(bench.host.devices[0], entries, ring.RX_FORMAT)
        written = taken = 0
        while taken < 70_000 // (64 // entries):
            for _ in range(rng.randint(0, entries - (written - taken))):
                phase = 0 if written // entries & 1 else codec.mask("flags", "phase")
                raw = codec.pack(buffer_id=written & 0xFFFF, length=60, flags=phase)
                bench.platform.device_write(completions.memory.address + 16 * (written % entries), raw)
                written += 1
            while (entry := completions.next()) is not None:
                assert entry[0] == taken & 0xFFFF
                taken += 1
            assert taken == written
            assert completions.consumer == taken & 0xFFFF
        completions.free()

    bench.run(use)


def test_a_line_misses_once_for_four_completions() -> None:
    bench = Bench()
    core = bench.core

    def use() -> None:
        completions = CompletionRing(bench.host.devices[0], 64, ring.RX_FORMAT)
        before = core.device_line.count
        for number in range(32):
            bench.platform.device_write(completions.memory.address + 16 * number, b"\0" * 15 + b"\x80")
        while completions.next() is not None:
            pass
        assert core.device_line.count - before == 8
        completions.next()
        assert core.device_line.count - before == 8, "an empty look finds the line in the cache"

    bench.run(use)


@pytest.mark.parametrize(
    ("entries", "error"), [(4, ValueError), (48, ValueError), (65536, ValueError), ("8", TypeError), (True, TypeError)]
)
def test_bad_ring_size(entries: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"Ring size must be .*, not {entries!r}"):
        DescriptorRing(Bench().host.devices[0], entries)


def test_no_memory_for_a_ring() -> None:
    with pytest.raises(MemoryError, match="No memory for a ring of 32768 entries"):
        DescriptorRing(Bench(memory=1 << 16).host.devices[0], 32768)
