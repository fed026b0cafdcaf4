# SPDX-License-Identifier: BSD-2-Clause
"""The register map is the description, and tells wrong names apart."""

import pytest

from hw.abi.registers import description, register_map


@pytest.mark.parametrize("queues", [1, 2, 16])
def test_one_page_for_the_port_and_one_for_each_queue(queues):
    registers = register_map(queues)
    assert registers.size == 0x1000 * (1 + queues)
    assert registers.address("control") == 0x010
    assert registers.address("rx_doorbell", queue=queues - 1) == 0x1000 * queues + 0x800


@pytest.mark.parametrize("pools", [0, 1, 16])
def test_the_pages_of_pools_are_behind_those_of_queues(pools):
    registers = register_map(3, pools=pools)
    assert registers.pool_base == 0x4000
    assert registers.size == description(3, pools=pools).size == 0x4000 + 0x1000 * pools
    assert registers.queue == register_map(3).queue
    assert registers.port == register_map(3).port
    if pools:
        assert registers.address("return4", pool=pools - 1) == 0x3000 + 0x1000 * pools + 0x818
    with pytest.raises(ValueError, match=f"Pool must be in 0..{pools - 1}, not {pools}"):
        registers.address("limit", pool=pools)


def test_registers_do_not_overlap():
    registers = register_map(2, pools=1)
    for space in (registers.port, registers.queue, registers.pool):
        offsets = [register.offset for register in space.values()]
        assert len(set(offsets)) == len(offsets)
        assert all(offset % 8 == 0 and offset < 0x1000 for offset in offsets)


def test_addresses_are_described():
    registers = register_map(2)
    assert registers.describe(registers.address("control")) == "control"
    assert registers.describe(registers.address("rx.frames")) == "rx.frames"
    assert registers.describe(registers.address("rx_doorbell", queue=1)) == "rx_doorbell of queue 1"
    assert registers.describe(0x2F00) == "0x2f00, where no register is"
    assert registers.describe(0x3000) == "0x3000, where no register is"
    registers = register_map(2, pools=2)
    assert registers.describe(registers.address("limit", pool=1)) == "limit of pool 1"
    assert registers.describe(registers.address("arm", queue=1)) == "arm of queue 1"
    assert registers.describe(0x5000) == "0x5000, where no register is"


def test_fields_pack_and_unpack():
    limits = register_map(1).port["frame_limits"]
    word = limits.pack(min_length=64, max_length=1518)
    assert word == 1518 << 16 | 64
    assert limits.get(word, "max_length") == 1518
    assert limits.reset == limits.pack(min_length=60, max_length=9216)
    assert limits.mask == 0xFFFFFFFF


@pytest.mark.parametrize("max_frame", [64, 1514, 9216])
def test_the_longest_accepted_frame_is_the_longest_possible_after_reset(max_frame):
    limits = register_map(2, max_frame).port["frame_limits"]
    assert limits.reset == limits.pack(min_length=60, max_length=max_frame)


def test_capabilities_have_their_places():
    fields = register_map(1).port["capabilities"].fields
    places = {name: (field.lsb, field.width) for name, field in fields.items()}
    assert places == {
        "queues": (0, 8),
        "beat_bytes": (8, 8),
        "rx_buffer_kib": (16, 16),
        "tx_buffer_kib": (32, 12),
        "max_descriptors": (44, 4),
        "steering_rules": (48, 10),
        "rss": (58, 1),
        "header_split": (59, 1),
        "classify": (60, 1),
        "tx_offload": (61, 1),
        "segmentation": (62, 1),
    }


def test_pulses_are_marked():
    registers = register_map(1, pools=1)
    pulses = {
        (page, name): {field for field, described in register.fields.items() if described.pulse}
        for page in ("port", "queue", "pool")
        for name, register in getattr(registers, page).items()
    }
    assert {place: fields for place, fields in pulses.items() if fields} == {
        ("port", "control"): {"reset", "snapshot"},
        ("port", "rule_command"): {"insert", "remove"},
        ("pool", "loop"): {"open"},
        ("pool", "low_water"): {"arm"},
        ("pool", "acknowledge"): {"misuse"},
    }


def test_wrong_names_and_values_are_refused():
    registers = register_map(2)
    with pytest.raises(ValueError, match="no field 'speed'; it has min_length, max_length"):
        registers.port["frame_limits"].pack(speed=1)
    with pytest.raises(ValueError, match=r"device_id must be in 0..16777215, not 16777216"):
        registers.port["device"].pack(device_id=1 << 24)
    with pytest.raises(ValueError, match=r"Queue must be in 0..1, not 2"):
        registers.address("arm", queue=2)
    for queues in (0, 65, "2"):
        with pytest.raises(ValueError, match=f"Queues must be an integer in 1..64, not {queues!r}"):
            register_map(queues)
    for pools in (-1, 17, "2"):
        with pytest.raises(ValueError, match=f"Pools must be an integer in 0..16, not {pools!r}"):
            register_map(1, pools=pools)
    for max_frame in (63, 9217, "1514"):
        with pytest.raises(ValueError, match=f"max_frame must be an integer in 64..9216, not {max_frame!r}"):
            register_map(2, max_frame)
