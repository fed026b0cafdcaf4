# SPDX-License-Identifier: BSD-2-Clause
"""A core behind a cache that devices do not see into."""

import pytest

from driver_model.cpu.noncoherent import NonCoherentCore
from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from tests.driver_model.fake_platform import FakePlatform
from tests.driver_model.noncoherent_kit import noncoherent_profile

AT = 0x2000


def system(cores: int = 1, seed: int = 0) -> tuple[FakePlatform, System]:
    platform = FakePlatform(1 << 16, log=False)
    return platform, System(platform, noncoherent_profile(), cores, cache_seed=seed)


def test_a_coherent_machine_has_no_such_thing() -> None:
    (core,) = System(FakePlatform(), Profile.load("e5-1650v4")).cores
    assert core.cache is None
    assert not isinstance(core, NonCoherentCore)


def test_the_cores_share_an_image() -> None:
    _, pair = system(2)
    first, second = pair.cores
    first.store_owned(AT, b"hello")
    assert second.load_owned(AT, 5) == b"hello"


def test_every_kind_of_access_goes_through_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    platform, single = system()
    (core,) = single.cores
    assert core.cache is not None
    monkeypatch.setattr(core.cache.image, "_stir", lambda first, last: None)
    core.store_owned(AT, b"a" * 64)
    core.store(AT + 64, b"b" * 64)
    core.copy(AT + 128, AT, 64)
    assert platform.read(AT, 192) == bytes(192)
    platform.device_write(AT, b"d" * 192)
    assert core.load_owned(AT, 64) == b"a" * 64
    assert core.load(AT + 64, 64) == b"b" * 64
    assert core.load_latched(AT + 128, 64, bool) == b"a" * 64


def test_maintenance_is_charged_by_line() -> None:
    _, single = system()
    (core,) = single.cores
    assert core.cache is not None
    core.cache.clean(AT + 60, 8)
    core.cache.invalidate(AT, 4096)
    core.cache.make_uncached(AT, 4096)
    assert core.op("dma.cache_clean_line").count == 2
    assert core.op("dma.cache_invalidate_line").count == 128


def test_uncached_loads_wait_for_memory_and_stores_do_not() -> None:
    platform, single = system()
    (core,) = single.cores
    assert core.cache is not None
    core.cache.make_uncached(AT, 4096)
    core.store_owned(AT, b"x" * 256)
    assert platform.read(AT, 256) == b"x" * 256
    uncached = core.op("cpu.uncached")
    assert uncached.count == 0
    core.load_owned(AT, 64)
    core.load(AT, 65)
    core.load_latched(AT, 16, bool)
    core.copy(0x4000, AT, 64)
    core.copy_owned(0x4000, AT + 60, 8)
    assert uncached.count == 1 + 2 + 1 + 1 + 2
    core.cache.make_cached(AT, 4096)
    core.load_owned(AT, 64)
    assert uncached.count == 7


def test_what_the_device_wrote_misses() -> None:
    _, single = system()
    assert single.cores[0].device_line.name == "cache.miss"
