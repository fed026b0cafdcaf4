# SPDX-License-Identifier: BSD-2-Clause
"""Features are those that the device has, and those that are on."""

import errno

import pytest

from driver_model.drivers.features import ETHTOOL_NAMES, Capabilities, Feature, NetDevice, fix_features
from hw.abi.registers import register_map
from hw.config import PRESETS, preset
from hw.nic.capabilities import capabilities
from tests.driver_model.bench import Bench

REGISTERS = register_map(2)
OFF = Feature.HW_VLAN_CTAG_RX  # at first
RX = Feature.RXCSUM | OFF
TX = Feature.HW_CSUM | Feature.HW_VLAN_CTAG_TX
TSO = Feature.SG | Feature.TSO | Feature.TSO_ECN | Feature.TSO6


def decoded(**fields: int) -> Capabilities:
    return Capabilities.decode(
        REGISTERS,
        REGISTERS.port["capabilities"].pack(queues=2, **fields),
        REGISTERS.port["frame_limits"].pack(min_length=60, max_length=1514),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Feature(0)),
        ({"classify": 1}, RX),
        ({"classify": 1, "rss": 1}, RX | Feature.RXHASH),
        ({"classify": 1, "steering_rules": 64}, RX | Feature.NTUPLE),
        ({"classify": 1, "header_split": 1}, RX),
        ({"tx_offload": 1}, TX),
        ({"tx_offload": 1, "segmentation": 1}, TX | TSO),
        ({"classify": 1, "rss": 1, "steering_rules": 64, "tx_offload": 1, "segmentation": 1}, ~Feature(0)),
    ],
)
def test_features_are_those_of_the_registers(fields: dict[str, int], expected: Feature) -> None:
    found = decoded(**fields)
    assert (found.queues, found.max_frame, found.rules) == (2, 1514, fields.get("steering_rules", 0))
    assert found.header_split == bool(fields.get("header_split"))
    assert found.features == expected
    assert NetDevice(found).features == expected & ~OFF


@pytest.mark.parametrize("name", PRESETS)
def test_a_driver_learns_from_registers_what_the_hardware_was_built_with(name: str) -> None:
    config = preset(name, max_frame=4000, fetch_depth=128)
    registers = register_map(config.queues, config.max_frame)
    found = Capabilities.decode(registers, capabilities(config), registers.port["frame_limits"].reset)
    assert found == Capabilities(
        queues=config.queues,
        max_frame=4000,
        max_descriptors=64,
        classify=config.classify,
        rss=config.rss,
        rules=config.steering_rules,
        header_split=config.header_split,
        tx_offload=config.tx_offload,
        segmentation=config.segmentation,
    )
    assert found.features == (~Feature(0) if name.endswith("-offload") else Feature(0))


@pytest.mark.parametrize(
    ("built", "expected"), [({}, Feature(0)), ({"offloads": True}, RX | TX | TSO), ({"rules": 64}, RX | Feature.NTUPLE)]
)
def test_a_probed_device_has_what_it_says_and_refuses_the_rest(built: dict[str, int], expected: Feature) -> None:
    bench = Bench(max_frame=2000, **built)
    assert bench.driver.ethtool.features == Feature(0), "nothing is known before"

    def run() -> None:
        bench.driver.probe()
        ethtool = bench.driver.ethtool
        assert ethtool.features == expected & ~OFF
        for name, feature in ETHTOOL_NAMES.items():
            if feature not in expected:
                with pytest.raises(OSError, match=f"The device does not have {name}") as refusal:
                    ethtool.set_features(expected | feature)
                assert refusal.value.errno == errno.EOPNOTSUPP
        with pytest.raises(OSError, match="no tcp-data-split") as refusal:
            ethtool.set_tcp_data_split(enable=True)
        assert refusal.value.errno == errno.EOPNOTSUPP
        assert ethtool.features == expected & ~OFF

    bench.run(run)
    assert bench.driver.netdev.capabilities.max_frame == 2000


def test_limits_that_someone_set_before_do_not_count() -> None:
    bench = Bench()
    bench.nic.port["frame_limits"] = REGISTERS.port["frame_limits"].pack(min_length=60, max_length=1514)
    bench.run(bench.driver.probe)
    assert bench.driver.netdev.capabilities.max_frame == 9216


def test_features_are_switched_as_ethtool_does() -> None:
    netdev = NetDevice(decoded(classify=1, rss=1, tx_offload=1, segmentation=1))
    netdev.set_features(TX | Feature.SG | Feature.TSO)
    assert netdev.features == TX | Feature.SG | Feature.TSO
    netdev.set_features(TSO | Feature.RXCSUM)
    assert netdev.features == Feature.SG | Feature.RXCSUM, "no segmentation without checksums"
    netdev.set_features((TX | TSO) & ~Feature.SG)
    assert netdev.features == TX, "nor without pieces"
    with pytest.raises(OSError, match="has tx-scatter-gather switched off"):
        netdev.require(Feature.SG)
    netdev.set_features(Feature.RXCSUM)
    with pytest.raises(OSError, match="does not have rx-ntuple-filter") as refusal:
        netdev.set_features(Feature.NTUPLE)
    assert refusal.value.errno == errno.EOPNOTSUPP
    assert netdev.features == Feature.RXCSUM


def test_every_feature_has_its_name() -> None:
    assert set(ETHTOOL_NAMES.values()) == set(Feature)
    assert fix_features(TSO | TX) == TSO | TX
    assert fix_features(TX | Feature.SG | Feature.TSO_ECN) == TX | Feature.SG
    assert fix_features(TX | Feature.SG | Feature.TSO_ECN | Feature.TSO6) == TX | TSO & ~Feature.TSO
