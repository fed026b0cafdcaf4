# SPDX-License-Identifier: BSD-2-Clause
"""The caches' image: what it may do and what it must do, over many seeds."""

import random
from typing import Any

import pytest

from driver_model.cpu.cache import HORIZON_PS, LINE, CacheImage
from tests.driver_model.fake_platform import FakePlatform

SEEDS = range(200)
OLD, NEW, OTHER = b"o" * LINE, b"n" * LINE, b"x" * LINE
AT = 0x2000


def machine(seed: int) -> tuple[FakePlatform, CacheImage]:
    platform = FakePlatform(1 << 16, log=False)
    platform.device_write(AT, OLD * 4)
    return platform, CacheImage(platform, seed)


def wait(platform: FakePlatform) -> None:
    """Until the cache has done all that it may."""
    platform.run(platform.now + 2 * HORIZON_PS)


def outcomes(play: Any) -> set[Any]:
    """Everything that may come of a play."""
    return {play(*machine(seed)) for seed in SEEDS}


def test_a_core_reads_what_it_wrote_whatever_the_cache_does() -> None:
    seed = 11
    print(f"seed {seed}")
    rng = random.Random(seed)
    platform, cache = machine(seed)
    model = bytearray(platform.read(0, 1 << 14))
    for _ in range(3000):
        address, length = rng.randrange(1 << 13), rng.randrange(1, 300)
        if rng.randrange(2):
            data = rng.randbytes(length)
            cache.write(address, data)
            model[address : address + length] = data
        else:
            assert cache.read(address, length) == model[address : address + length]
        if not rng.randrange(10):
            platform.run(platform.now + rng.randrange(1, HORIZON_PS))
    cache.flush(0, 1 << 14)
    assert platform.read(0, 1 << 14) == model
    assert cache.write_backs
    assert cache.fetches
    assert cache.evictions


def test_a_store_reaches_memory_at_any_moment_or_never() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> tuple[bytes, bytes]:
        cache.write(AT, NEW)
        at_once = platform.read(AT, LINE)
        wait(platform)
        return at_once, platform.read(AT, LINE)

    assert outcomes(play) == {(OLD, OLD), (OLD, NEW), (NEW, NEW)}


def test_a_clean_writes_back() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> tuple[bytes, int | None]:
        cache.write(AT + 60, NEW)
        cache.clean(AT + 60, LINE)
        return platform.read(AT, 3 * LINE), cache.first_dirty(AT, 3 * LINE)

    assert outcomes(play) == {(OLD[:60] + NEW + OLD[60:] + OLD, None)}


def test_what_a_device_writes_is_seen_at_any_moment_or_never() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> bytes:
        cache.read(AT, LINE)
        cache.clean(AT, LINE)
        platform.device_write(AT, NEW)
        wait(platform)
        return cache.read(AT, LINE)

    assert outcomes(play) == {OLD, NEW}


def test_a_line_that_software_never_touched_may_be_stale_by_speculation() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> bytes:
        cache.clean(AT, LINE)
        platform.device_write(AT, NEW)
        return cache.read(AT, LINE)

    assert outcomes(play) == {OLD, NEW}


def test_a_speculative_fetch_may_come_between_two_writes_of_the_device() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> bytes:
        cache.clean(AT, LINE)
        platform.device_write(AT, NEW)
        platform.run(HORIZON_PS // 2)
        platform.device_write(AT, OTHER)
        return cache.read(AT, LINE)

    assert outcomes(play) == {OLD, NEW, OTHER}


def test_an_invalidate_shows_what_the_device_wrote() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> bytes:
        cache.read(AT, 2 * LINE)
        cache.clean(AT, 2 * LINE)
        platform.device_write(AT, NEW)
        wait(platform)
        cache.invalidate(AT, LINE)
        return cache.read(AT, LINE)

    assert outcomes(play) == {NEW}


def test_an_invalidate_destroys_stores_unless_they_had_destroyed_the_devices_bytes() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> bytes:
        platform.device_write(AT, NEW)
        cache.write(AT, b"cpu")
        cache.invalidate(AT, LINE)
        return cache.read(AT, LINE)

    assert outcomes(play) == {NEW, b"cpu" + NEW[3:]}


def test_an_invalidate_keeps_stores_beside_its_range() -> None:
    def play(platform: FakePlatform, cache: CacheImage) -> bytes:
        cache.write(AT, b"cpu")
        cache.write(AT + 3 * LINE - 3, b"cpu")
        cache.invalidate(AT + 32, 2 * LINE)
        return cache.read(AT, 3) + cache.read(AT + 3 * LINE - 3, 3)

    assert outcomes(play) == {b"cpucpu"}


def test_nothing_is_done_to_no_bytes() -> None:
    for seed in SEEDS:
        _, cache = machine(seed)
        cache.write(AT, b"cpu")
        assert cache.clean(AT, 0) == cache.invalidate(AT, 0) == 0
        assert cache.read(AT, 3) == b"cpu"
        assert cache.read(AT, 0) == b""


def test_uncached_memory_is_the_devices_too() -> None:
    platform, cache = machine(1)
    cache.write(AT, NEW)
    assert cache.flush(AT, 4096) == 64
    cache.set_uncached(AT, 4096)
    assert cache.uncached(AT + 4095)
    assert not cache.uncached(AT + 4096)
    assert cache.read(AT, LINE) == NEW
    platform.device_write(AT, OTHER)
    assert cache.read(AT, LINE) == OTHER
    cache.write(AT, OLD)
    assert platform.read(AT, LINE) == OLD
    cache.set_cached(AT, 4096)
    cache.write(AT, NEW)
    assert cache.first_dirty(AT, 4096) in (AT, None)


def test_nothing_is_fetched_beyond_memory() -> None:
    for seed in SEEDS:
        _, cache = machine(seed)
        cache.read((1 << 16) - LINE, LINE)
        assert max(cache._lines, default=0) < 1 << 10


def test_the_same_seed_gives_the_same_run() -> None:
    def play(seed: int) -> tuple[bytes, int, int, int]:
        platform, cache = machine(seed)
        for number in range(300):
            cache.write(AT + number % 7 * 50, bytes([number & 255]) * 40)
            platform.run(platform.now + 10**6)
        return platform.read(AT, 512), cache.write_backs, cache.fetches, cache.evictions

    assert play(5) == play(5)
    assert len({play(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize("seed", [True, "1", 1.5])
def test_bad_seed(seed: Any) -> None:
    with pytest.raises(TypeError, match=f"must be an integer, not {seed!r}"):
        CacheImage(FakePlatform(), seed)


def test_a_look_sees_what_a_load_would_and_changes_nothing() -> None:
    seed = 5
    print(f"seed {seed}")
    rng = random.Random(seed)
    platform, cache = machine(seed)
    cache.set_uncached(1 << 12, 1 << 12)
    for _ in range(500):
        address, length = rng.randrange(1 << 13), rng.randrange(300)
        length = min(length, (1 << 12) - address % (1 << 12))
        if rng.randrange(2):
            cache.write(address, rng.randbytes(length))
        else:
            before = cache.write_backs, cache.fetches, cache.evictions
            seen = cache.peek(address, length)
            assert (cache.write_backs, cache.fetches, cache.evictions) == before
            assert seen == cache.read(address, length)
        if not rng.randrange(10):
            platform.device_write(rng.randrange(1 << 13), rng.randbytes(64))
