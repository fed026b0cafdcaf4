# SPDX-License-Identifier: BSD-2-Clause
"""Parameters of the hardware are judged where they are given."""

from dataclasses import replace

import pytest

from hw.config import IOMMU_PRESETS, PRESETS, preset


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rss": 1}, TypeError, "rss must be a bool, not 1"),
        ({"rss": True}, ValueError, "rss needs classify"),
        ({"header_split": 1}, TypeError, "header_split must be a bool, not 1"),
        ({"header_split": True}, ValueError, "header_split needs classify"),
        ({"steering_rules": 64}, ValueError, "steering_rules needs classify"),
        ({"steering_rules": 32}, ValueError, "steering_rules that are not 0 must be a power of two in 64..512, not 32"),
        ({"steering_rules": 96}, ValueError, "must be a power of two in 64..512, not 96"),
        ({"steering_rules": 1024}, ValueError, "must be a power of two in 64..512, not 1024"),
        ({"steering_rules": False}, TypeError, "steering_rules that are not 0 must be an integer, not False"),
    ],
)
def test_what_packets_are_parsed_for_and_cannot_be_built_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        preset("10g", **changes)


@pytest.mark.parametrize("rules", [0, 64, 128, 256, 512])
def test_steering_is_built_as_asked_for(rules):
    config = preset("10g", classify=True, rss=True, steering_rules=rules)
    assert (config.rss, config.steering_rules) == (True, rules)


@pytest.mark.parametrize("ids", [0, 3, 64])
def test_number_of_read_ids_is_checked(ids):
    with pytest.raises(ValueError, match=f"read_ids must be a power of two in 1..32, not {ids}"):
        preset("10g", read_ids=ids)


@pytest.mark.parametrize("name", ["10g", "100g"])
def test_each_preset_is_there_with_pools_and_differs_in_nothing_else(name):
    plain, config = PRESETS[name], PRESETS[f"{name}-recycle"]
    assert config.pools
    ignored = {field: getattr(plain, field) for field in ("pools", "pool_buffers", "recycle_ahead")}
    assert replace(config, **ignored) == plain
    assert IOMMU_PRESETS[f"{name}-recycle"] == IOMMU_PRESETS[name]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("pools", 17, "an integer in 0..16"),
        ("pool_buffers", 8, "a power of two in 16..65536"),
        ("pool_buffers", 1000, "a power of two in 16..65536"),
        ("recycle_ahead", 4, "a power of two in 8..64"),
        ("recycle_ahead", 128, "a power of two in 8..64"),
    ],
)
def test_parameters_of_pools_are_checked(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name} must be {allowed}, not {value}"):
        preset("10g-recycle", **{name: value})


@pytest.mark.parametrize(("queues", "pools", "pages"), [(2, 0, 4), (2, 1, 4), (2, 2, 8), (16, 16, 64)])
def test_the_register_interface_reaches_all_pages(queues, pools, pages):
    assert 1 << preset("10g", queues=queues, pools=pools).mmio_addr_width == pages * 0x1000


@pytest.mark.parametrize("name", ["10g", "100g"])
def test_each_preset_is_there_with_all_offloads_and_differs_in_nothing_else(name):
    config = PRESETS[f"{name}-offload"]
    switches = ("classify", "rss", "header_split", "tx_offload", "segmentation")
    assert all(getattr(config, switch) is True for switch in switches)
    assert config.steering_rules >= 64
    assert replace(config, steering_rules=0, **dict.fromkeys(switches, False)) == PRESETS[name]
    assert IOMMU_PRESETS[f"{name}-offload"] == IOMMU_PRESETS[name]
    assert set(IOMMU_PRESETS) == set(PRESETS)
