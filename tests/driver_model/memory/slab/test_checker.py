# SPDX-License-Identifier: BSD-2-Clause
"""Use of freed objects, broken on purpose: it is caught, and explained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from driver_model.memory.dma.ownership import OwnershipError
from tests.driver_model.memory.slab.slab_kit import SlabKit

HERE = Path(__file__).name


@pytest.fixture
def kit() -> SlabKit:
    return SlabKit(checked=True)


def caught(break_it: Callable[[], object], story: str) -> None:
    with pytest.raises(OwnershipError, match=f"cpu access of free memory: .*at .*{HERE}:.* on core 0, .*ps: {story}"):
        break_it()


def test_objects_in_use_are_anyones(kit: SlabKit) -> None:
    first, second = kit.take(2)
    kit.core.store_owned(first.address, b"x" * 256)
    kit.core.load_owned(first.address + 250, 12)
    kit.core.copy(second.address, first.address, 256)
    assert kit.core.load_owned(second.address, 256) == b"x" * 256


def test_objects_of_two_slabs_may_be_touched_at_once(kit: SlabKit) -> None:
    cache = kit.host.slab_caches.kmem_cache_create("line", 64)
    by_address = {obj.address: obj for obj in kit.take(128, cache)}
    last = next(obj for obj in by_address.values() if (obj.address + 64) % 4096 == 0 and obj.address + 64 in by_address)
    kit.core.load_owned(last.address, 128)
    kit.slab.kmem_cache_free(by_address[last.address + 64])
    caught(lambda: kit.core.load_owned(last.address, 128), f"object {last.address + 64:#x} of line, allocated")


def test_use_after_free(kit: SlabKit) -> None:
    first, second = kit.take(2)
    kit.slab.kmem_cache_free(second)
    history = rf"object {second.address:#x} of buffer, allocated at .* on core 0, freed at .*{HERE}:\d+ on core 0"
    caught(lambda: kit.core.load_owned(second.address, 8), history)
    caught(lambda: kit.core.store_owned(second.address + 255, b"x"), history)
    caught(lambda: kit.core.load_owned(first.address + 200, 57), history)


def test_an_object_that_was_never_allocated(kit: SlabKit) -> None:
    obj = kit.one()
    caught(lambda: kit.core.load_owned(obj.address + 256, 8), "object .* of buffer, never allocated")


def test_beyond_an_object(kit: SlabKit) -> None:
    cache = kit.host.slab_caches.kmem_cache_create("small", 100, 64)
    obj = kit.one(cache)
    kit.core.load_owned(obj.address, 100)
    caught(lambda: kit.core.load_owned(obj.address, 101), rf"beyond the 100 bytes of object {obj.address:#x} of small")
    odd = kit.host.slab_caches.kmem_cache_create("odd", 96)
    last = kit.take(42, odd)[-1]
    caught(lambda: kit.core.load_owned(last.address + 96, 8), rf"beyond the objects of a slab.*{last.address:#x}")


def test_pages_given_back_are_pages_again(kit: SlabKit) -> None:
    obj = kit.one()
    assert kit.checker is not None
    assert len(kit.checker.slabs.frames) == 2
    kit.slab.kmem_cache_free(obj)
    kit.slab.drain()
    assert not kit.checker.slabs.frames
    caught(lambda: kit.core.load_owned(obj.address, 8), "freed at")
    page = kit.pages.alloc_pages(1)
    assert page is not None
    kit.core.load_owned(page.address, page.size)
    large = kit.slab.kmalloc(16384)
    assert large is not None
    kit.core.load_owned(large.address, 16384)
