# SPDX-License-Identifier: BSD-2-Clause
"""Features are those that the device has, and those that are on."""

import errno

import pytest

from driver_model.drivers.features import ETHTOOL_NAMES, Capabilities, Feature, NetDevice, Properties, fix_features
from hw.abi.registers import register_map

REGISTERS = register_map(2)
ALL = Properties(classify=True, tx_offload=True, segmentation=True)
RX = Feature.RXCSUM | Feature.HW_VLAN_CTAG_RX
TX = Feature.HW_CSUM | Feature.HW_VLAN_CTAG_TX


def capabilities(properties: Properties = ALL, **fields: int) -> Capabilities:
    word = REGISTERS.port["capabilities"].pack(queues=2, **fields)
    return Capabilities.decode(REGISTERS, word, properties)


@pytest.mark.parametrize(
    ("fields", "properties", "expected"),
    [
        ({}, Properties(), Feature(0)),
        ({}, Properties(classify=True), RX),
        ({"rss": 1}, Properties(), RX | Feature.RXHASH),
        ({"steering_rules": 64}, Properties(), RX | Feature.NTUPLE),
        ({"header_split": 1}, Properties(), RX),
        ({}, Properties(tx_offload=True), TX),
        ({}, Properties(tx_offload=True, segmentation=True), TX | Feature.TSO | Feature.TSO6),
        ({"rss": 1, "steering_rules": 64}, ALL, ~Feature(0)),
    ],
)
def test_what_the_device_has(fields: dict[str, int], properties: Properties, expected: Feature) -> None:
    found = capabilities(properties, **fields)
    assert found.queues == 2
    assert found.features == expected
    assert NetDevice(found).features == expected


def test_features_are_switched_as_ethtool_does() -> None:
    netdev = NetDevice(capabilities(rss=1))
    netdev.set_features(TX | Feature.TSO)
    assert netdev.features == TX | Feature.TSO
    netdev.set_features(Feature.TSO | Feature.TSO6 | Feature.RXCSUM)
    assert netdev.features == Feature.RXCSUM, "no segmentation without checksums"
    with pytest.raises(OSError, match="does not have rx-ntuple-filter") as refusal:
        netdev.set_features(Feature.NTUPLE)
    assert refusal.value.errno == errno.EOPNOTSUPP
    assert netdev.features == Feature.RXCSUM


def test_every_feature_has_its_name() -> None:
    assert set(ETHTOOL_NAMES.values()) == set(Feature)
    assert fix_features(Feature.TSO | TX) == Feature.TSO | TX
