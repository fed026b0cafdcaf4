# SPDX-License-Identifier: BSD-2-Clause
"""A mempool: what it holds, lends, refuses and gives back."""

import itertools
import random

import pytest

from driver_model.memory.mempool import CACHE_FLUSH, CACHE_SIZE, Mempool, MempoolError
from tests.driver_model.bench import Bench


def test_buffers_are_the_same_for_life_and_do_not_overlap() -> None:
    bench = Bench(memory=16 << 20)
    pool = Mempool(bench.host.devices[0], 3000, 2368)
    buffers = [pool.get() for _ in range(3000)]
    assert pool.get() is None
    assert (pool.empty, pool.out) == (1, 3000)
    places = sorted(buffer.address for buffer in buffers if buffer is not None)
    assert all(after - before >= 2368 for before, after in itertools.pairwise(places))
    for buffer in buffers:
        assert buffer is not None
        pool.put(buffer)
    assert pool.out == 0
    assert {pool.get() for _ in range(3000)} == set(buffers)


def test_the_cores_cache_trades_with_the_ring_in_bulk() -> None:
    pool = Mempool(Bench(memory=16 << 20).host.devices[0], 1024, 2048)
    first = pool.get()
    assert (len(pool._cache), len(pool._ring)) == (CACHE_SIZE - 1, 1024 - CACHE_SIZE)
    buffers = [first, *(pool.get() for _ in range(2 * CACHE_SIZE - 1))]
    assert (len(pool._cache), len(pool._ring)) == (0, 1024 - 2 * CACHE_SIZE)
    for count, buffer in enumerate(buffers, 1):
        assert buffer is not None
        pool.put(buffer)
        assert len(pool._cache) < CACHE_FLUSH, count
    assert (len(pool._cache), len(pool._ring)) == (CACHE_SIZE, 1024 - CACHE_SIZE)


def test_each_call_costs_and_nothing_is_mapped() -> None:
    bench = Bench()
    pool = Mempool(bench.host.devices[0], 64, 2048)
    for _ in range(10):
        buffer = pool.get()
        assert buffer is not None
        pool.put(buffer)
    counts = {name: bench.core.op(name).count for name in ("mempool.get", "mempool.put", "dma.map", "dma.sync_for_cpu")}
    assert counts == {"mempool.get": 10, "mempool.put": 10, "dma.map": 0, "dma.sync_for_cpu": 0}


def test_a_buffer_is_put_once() -> None:
    pool = Mempool(Bench().host.devices[0], 64, 2048)
    buffer = pool.get()
    assert buffer is not None
    pool.put(buffer)
    with pytest.raises(MempoolError, match=rf"Buffer at {buffer.address:#x} was put twice"):
        pool.put(buffer)


def test_a_buffer_is_of_one_pool() -> None:
    dev = Bench().host.devices[0]
    first, second = Mempool(dev, 64, 2048), Mempool(dev, 64, 4096)
    buffer = first.get()
    assert buffer is not None
    with pytest.raises(MempoolError, match=rf"Buffer at {buffer.address:#x} is another mempool's"):
        second.put(buffer)
    assert (first.out, second.out) == (1, 0)


def test_a_pool_is_not_freed_while_somebody_has_a_buffer() -> None:
    bench = Bench()
    pool = Mempool(bench.host.devices[0], 64, 2048)
    buffer = pool.get()
    assert buffer is not None
    with pytest.raises(MempoolError, match="1 buffers of a mempool that is freed are in use"):
        pool.free()
    pool.put(buffer)
    pool.free()
    assert bench.host.pages_in_use == 0


def test_without_memory_nothing_is_kept() -> None:
    bench = Bench(memory=4 << 20)
    before = bench.host.pages_in_use
    with pytest.raises(MemoryError, match="No memory for a mempool of 4096 buffers of 2048 bytes"):
        Mempool(bench.host.devices[0], 4096, 2048)
    assert bench.host.pages_in_use == before


@pytest.mark.parametrize(("count", "size"), [(0, 2048), (8, 0), (8, 100), (-1, 2048)])
def test_parameters(count: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"not {count} of {size}"):
        Mempool(Bench().host.devices[0], count, size)


def test_against_a_list() -> None:
    seed = 9
    random_ = random.Random(seed)
    bench = Bench()
    pool = Mempool(bench.host.devices[0], 800, 2048)
    out = []
    for step in range(20_000):
        if out and random_.random() < (0.4 if step // 2000 % 2 else 0.6):
            pool.put(out.pop(random_.randrange(len(out))))
        else:
            buffer = pool.get()
            assert (buffer is None) is (len(out) == 800), (seed, step)
            if buffer is not None:
                assert not buffer.free
                assert buffer not in out[-5:], (seed, step)
                out.append(buffer)
        assert pool.out == len(out), (seed, step)
    for buffer in out:
        pool.put(buffer)
    pool.free()
    assert bench.host.pages_in_use == 0
