# SPDX-License-Identifier: BSD-2-Clause
"""Cores of one machine, coherent or not."""

import pytest

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from tests.driver_model.fake_platform import FakePlatform


@pytest.mark.parametrize(("profile", "outcomes"), [("e5-1650v4", {b"device"}), ("cortex-a53", {b"device", b"kernel"})])
def test_a_look_at_memory_is_through_the_caches(profile: str, outcomes: set[bytes]) -> None:
    seen = set()
    for seed in range(20):
        platform = FakePlatform(1 << 16, log=False)
        system = System(platform, Profile.load(profile), cache_seed=seed)
        system.cores[0].store_owned(0x2000, b"kernel")
        platform.device_write(0x2000, b"device")
        seen.add(system.peek(0x2000, 6))
        assert platform.read(0x2000, 6) == b"device"
    assert seen == outcomes


def test_operations_are_summed_over_cores() -> None:
    platform = FakePlatform(1 << 16, log=False)
    system = System(platform, Profile.load("e5-1650v4"), 2)
    for core in system.cores:
        core.spend(core.op("atomic"), 3)
    assert {name: count for name, (count, _) in system.operations().items()} == {"atomic": 6}
