# SPDX-License-Identifier: BSD-2-Clause
"""CAPABILITIES and POOL_CAPABILITIES say what each preset has, and each parameter in its own field."""

import pytest

from hw.abi.registers import register_map
from hw.config import PRESETS, preset
from hw.nic.capabilities import capabilities, pool_capabilities

SIZES = {
    "10g": {"queues": 2, "beat_bytes": 8, "rx_buffer_kib": 32, "tx_buffer_kib": 32, "max_descriptors": 5},
    "100g": {"queues": 16, "beat_bytes": 64, "rx_buffer_kib": 64, "tx_buffer_kib": 64, "max_descriptors": 7},
}
NOTHING = {"steering_rules": 0, "rss": 0, "header_split": 0, "classify": 0, "tx_offload": 0, "segmentation": 0}
EVERYTHING = dict.fromkeys(NOTHING, 1) | {"steering_rules": 64}


POOLS = {
    "10g-recycle": {"pools": 2, "id_bits": 10, "ahead": 16, "ats": 0},
    "100g-recycle": {"pools": 16, "id_bits": 11, "ahead": 32, "ats": 0},
}


def fields(config, name="capabilities", word_of=capabilities):
    register = register_map(config.queues).port[name]
    word = word_of(config)
    assert word & ~register.mask == 0
    return {field: register.get(word, field) for field in register.fields}


def pool_fields(config):
    return fields(config, "pool_capabilities", pool_capabilities)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    size, _, more = name.partition("-")
    assert fields(preset(name)) == SIZES[size] | (EVERYTHING if more == "offload" else NOTHING)
    assert pool_fields(preset(name)) == POOLS.get(name, {"pools": 0, "id_bits": 0, "ahead": 0, "ats": 0})


@pytest.mark.parametrize("lacking", ["rss", "steering_rules", "header_split", "segmentation"])
def test_what_is_left_out_is_missing_alone(lacking):
    config = preset("10g-offload", **{lacking: 0 if lacking == "steering_rules" else False})
    assert fields(config) == SIZES["10g"] | EVERYTHING | {lacking: 0}


@pytest.mark.parametrize("alone", ["classify", "tx_offload"])
def test_what_needs_nothing_else_is_there_alone(alone):
    assert fields(preset("10g", **{alone: True})) == SIZES["10g"] | NOTHING | {alone: 1}


def test_the_largest_values_fit():
    largest = {"rx_buffer_bytes": 1 << 20, "tx_buffer_bytes": 1 << 20, "steering_rules": 512, "fetch_depth": 512}
    found = fields(preset("100g-offload", queues=16, **largest))
    names = ("rx_buffer_kib", "tx_buffer_kib", "steering_rules", "max_descriptors")
    assert [found[name] for name in names] == [1024, 1024, 512, 8]
    largest = {"pools": 16, "pool_buffers": 65536, "recycle_ahead": 512, "fetch_depth": 512, "ats": True}
    assert pool_fields(preset("100g", **largest)) == {"pools": 16, "id_bits": 16, "ahead": 512, "ats": 1}
