# SPDX-License-Identifier: BSD-2-Clause
"""How SKBs are made, by every policy: what that costs, and what it counts."""

import pytest

from driver_model.net.skb.policy import Clearing, Head, HeadMemory, NapiCache, Place, SkbPolicy
from driver_model.net.skb.sk_buff import SIZEOF_SHARED_INFO, SIZEOF_SK_BUFF, SkbError, skb_push, skb_truesize
from tests.driver_model.net.skb.skb_kit import HEADROOM, SkbKit

CLEAR = ("skb.clear", "skb.clear_movq", "skb.clear_avx2", "skb.clear_line", "skb.clear_bulk", "skb.clear_bulk_call")


def test_build_skb_counts_the_whole_buffer_and_the_sk_buff() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    assert skb.truesize == 4096 + SIZEOF_SK_BUFF == skb_truesize(4096 - SIZEOF_SHARED_INFO)
    assert skb.end == skb.head.address + 4096 - SIZEOF_SHARED_INFO
    assert not skb.pp_recycle
    assert kit.received(b"abcd", recycles=True).pp_recycle


@pytest.mark.parametrize(("memory", "size"), [(HeadMemory.KMALLOC, 1024), (HeadMemory.FRAGMENT, 256 + 64 + 320)])
def test_a_head_of_its_own_counts_what_its_memory_is(memory: HeadMemory, size: int) -> None:
    """kmalloc rounds up, and ``ksize`` says to what; a fragment is as long as was asked for."""
    kit = SkbKit(SkbPolicy(head_memory=memory))
    skb = kit.skbs.napi_alloc_skb(256)
    assert skb is not None
    assert (skb.head.size, skb.truesize) == (size, size + SIZEOF_SK_BUFF)
    assert (skb.headroom, skb.len) == (64, 0)
    assert skb.tailroom >= 256
    assert skb.head.is_page is (memory is HeadMemory.FRAGMENT)
    other = kit.skbs.alloc_skb(256)
    assert other is not None
    assert not other.head.is_page, "outside of a poll it is kmalloc's"
    kit.freeing.kfree_skb_list([skb, other])
    kit.finish()


def test_a_large_head_is_kmallocs_whatever_the_policy() -> None:
    kit = SkbKit(SkbPolicy(head_memory=HeadMemory.FRAGMENT))
    skb = kit.skbs.napi_alloc_skb(6000)
    assert skb is not None
    assert not skb.head.is_page
    kit.freeing.consume_skb(skb)
    with pytest.raises(ValueError, match="0 bytes or more, not -1"):
        kit.skbs.napi_alloc_skb(-1)
    kit.finish()


@pytest.mark.parametrize(
    ("clearing", "made", "up"),
    [
        (Clearing.MEMSET, {"skb.clear": 20}, {}),
        (Clearing.MOVQ, {"skb.clear_movq": 20}, {}),
        (Clearing.AVX2, {"skb.clear_avx2": 20}, {}),
        (Clearing.BULK, {"skb.clear_bulk": 32, "skb.clear_bulk_call": 2}, {}),
        (Clearing.DELAYED, {}, {"skb.clear": 20}),
        (Clearing.SECTION, {"skb.clear_line": 40}, {"skb.clear_line": 40}),
    ],
)
def test_clearing(clearing: Clearing, made: dict[str, int], up: dict[str, int]) -> None:
    """Twenty SKBs: what is paid when each is made, and when it goes up the stack. In bulk, 16 neighbours at once."""
    kit = SkbKit(SkbPolicy(clearing=clearing))
    skbs = [kit.received(b"abcd") for _ in range(20)]
    assert kit.counts(*CLEAR) == made
    for skb in skbs:
        kit.skbs.finish_clearing(skb)
        kit.skbs.finish_clearing(skb)
    assert kit.counts(*CLEAR) == {name: made.get(name, 0) + up.get(name, 0) for name in made | up}


def test_what_was_cleared_in_bulk_and_left_the_cache_is_cleared_again() -> None:
    kit = SkbKit(SkbPolicy(clearing=Clearing.BULK))
    kit.freeing.consume_skb(kit.received(b"abcd"))
    kit.freeing.drain()
    before = kit.counts(*CLEAR)
    skb = kit.skbs.alloc_skb(10)
    assert skb is not None
    assert kit.count("skb.clear") == before.get("skb.clear", 0) + 1


@pytest.mark.parametrize("place", [Place.HEADROOM, Place.TAILROOM])
def test_an_sk_buff_in_the_packets_buffer(place: Place) -> None:
    kit = SkbKit(SkbPolicy(place=place))
    memory = kit.buffer()
    room = 4096 - SIZEOF_SHARED_INFO - SIZEOF_SK_BUFF
    if place is Place.HEADROOM:
        assert kit.skbs.fits(memory, 256, room)
        assert not kit.skbs.fits(memory, 255, 1)
    else:
        assert kit.skbs.fits(memory, 0, room)
        assert not kit.skbs.fits(memory, 256, room)
    skb = kit.skbs.build_skb(memory)
    assert skb is not None
    assert skb.struct is None
    assert skb.truesize == 4096, "the sk_buff takes nothing beside"
    assert kit.skbs.statistics.napi_reused == 0
    assert kit.count("skb.napi_get") == 0
    assert skb.end - skb.start == room
    with pytest.raises(SkbError, match="skb_under_panic"):
        skb_push(skb, 1)
    kit.freeing.consume_skb(skb)
    assert kit.owner.released == [memory.address]
    kit.finish()


def test_what_fits() -> None:
    kit = SkbKit()
    assert kit.skbs.fits(kit.buffer(), HEADROOM, 4096 - HEADROOM - SIZEOF_SHARED_INFO)
    assert not kit.skbs.fits(kit.buffer(), HEADROOM, 4096 - HEADROOM - SIZEOF_SHARED_INFO + 1)
    assert not kit.skbs.fits(kit.buffer(writable=False), HEADROOM, 60)
    assert not SkbKit(SkbPolicy(head=Head.COPY)).skbs.fits(kit.buffer(), HEADROOM, 60)


@pytest.mark.parametrize(("prefetchw", "op"), [(True, "cpu.prefetchw"), (False, "llc.load")])
def test_lines_of_the_buffer_that_the_cpu_writes_are_prefetched_or_missed(prefetchw: bool, op: str) -> None:
    kit = SkbKit(SkbPolicy(prefetchw=prefetchw))
    kit.received(b"abcd")
    assert kit.counts("cpu.prefetchw", "llc.load") == {op: 1}
    kit = SkbKit(SkbPolicy(prefetchw=prefetchw, place=Place.TAILROOM))
    kit.received(b"abcd")
    assert kit.counts("cpu.prefetchw", "llc.load") == {op: 1 + 4}


def test_the_napi_cache_is_filled_by_sixteen_and_reused() -> None:
    kit = SkbKit(SkbPolicy(napi_cache=NapiCache.REUSE))
    skbs = [kit.received(b"abcd") for _ in range(17)]
    statistics = kit.skbs.statistics
    assert (statistics.allocated, statistics.napi_reused, len(kit.skbs.napi_cache)) == (17, 15, 15)
    assert kit.count("skb.napi_get") == 17
    for skb in skbs:
        kit.freeing.napi_consume_skb(skb, 64)
    assert len(kit.skbs.napi_cache) == 32
    kit.received(b"abcd")
    assert statistics.napi_reused == 16


@pytest.mark.parametrize("kind", [NapiCache.OFF, NapiCache.BULK_FREE])
def test_without_reuse_each_comes_from_the_slab(kind: NapiCache) -> None:
    kit = SkbKit(SkbPolicy(napi_cache=kind))
    kit.freeing.napi_consume_skb(kit.received(b"abcd"), 64)
    kit.received(b"abcd")
    assert kit.skbs.statistics.napi_reused == 0
    assert kit.count("skb.napi_get") == 0


def test_a_clone_shares_head_and_fragments() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag"], recycles=True)
    clone = kit.skbs.skb_clone(skb)
    assert clone is not None
    assert clone.shinfo is skb.shinfo
    assert clone.head is skb.head
    assert (skb.cloned, clone.cloned, skb.shinfo.dataref, clone.users) == (True, True, 2, 1)
    assert (clone.pp_recycle, clone.truesize, clone.sk) == (True, skb.truesize, None)
    assert kit.count("skb.clone") == 1
    assert kit.bytes(clone) == b"headfrag"
    kit.freeing.consume_skb(skb)
    assert kit.bytes(clone) == b"headfrag", "the last one keeps the bytes"
    assert not kit.owner.released
    assert not clone.shared
    kit.freeing.consume_skb(clone)
    assert len(kit.owner.released) == 1
    kit.finish()


def test_a_clone_of_an_sk_buff_in_its_buffer_counts_its_own() -> None:
    kit = SkbKit(SkbPolicy(place=Place.TAILROOM))
    skb = kit.received(b"abcd")
    clone = kit.skbs.skb_clone(skb)
    assert clone is not None
    assert clone.struct is not None
    assert clone.truesize == skb.truesize + SIZEOF_SK_BUFF
    kit.freeing.consume_skb(skb)
    assert kit.bytes(clone) == b"abcd"
    kit.freeing.consume_skb(clone)
    kit.finish()


def test_without_memory_there_is_no_skb_and_that_is_counted() -> None:
    for policy in (SkbPolicy(), SkbPolicy(napi_cache=NapiCache.OFF), SkbPolicy(head_memory=HeadMemory.FRAGMENT)):
        kit = SkbKit(policy, memory=1 << 20)
        skb, buffers = kit.received(b"abcd"), [kit.buffer() for _ in range(40)]
        hoard = list(iter(kit.pages.alloc_pages, None))
        made = []
        while (more := kit.skbs.napi_alloc_skb(100)) is not None:
            made.append(more)
        assert kit.skbs.statistics.failed == 1
        while (clone := kit.skbs.skb_clone(skb)) is not None:
            made.append(clone)
        assert kit.skbs.statistics.failed == 2
        while (built := kit.skbs.build_skb(buffers[-1])) is not None:
            made.append(built)
            buffers.pop()
        assert kit.skbs.statistics.failed == 3
        for page in hoard:
            if page is not None:
                kit.pages.put_page(page)
        for each in (skb, *made):
            kit.freeing.consume_skb(each)
        for buffer in buffers:
            buffer.put(kit.skbs)
        kit.finish()
