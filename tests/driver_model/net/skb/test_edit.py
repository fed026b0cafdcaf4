# SPDX-License-Identifier: BSD-2-Clause
"""SKBs are changed: pulled together, made private, cut, joined."""

import pytest

from driver_model.net.skb.edit import (
    pskb_expand_head,
    pskb_may_pull,
    pskb_trim,
    skb_add_rx_frag,
    skb_cow_head,
    skb_ensure_writable,
    skb_try_coalesce,
)
from driver_model.net.skb.policy import HeadMemory, Place, SkbPolicy
from driver_model.net.skb.sk_buff import (
    MAX_SKB_FRAGS,
    SIZEOF_SHARED_INFO,
    SIZEOF_SK_BUFF,
    SkbError,
    SkBuff,
    skb_pull,
    skb_put,
    skb_store,
)
from tests.driver_model.net.skb.skb_kit import HEADROOM, SkbKit

FRAGMENT = SkbPolicy(head_memory=HeadMemory.FRAGMENT)
KMALLOC_1K = 1024


def clone_of(kit: SkbKit, skb: SkBuff) -> SkBuff:
    clone = kit.skbs.skb_clone(skb)
    assert clone is not None
    return clone


def free(kit: SkbKit, *skbs: SkBuff) -> None:
    for skb in skbs:
        kit.freeing.consume_skb(skb)
    kit.finish()


def test_bytes_are_pulled_into_the_linear_part() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag1", b"frag2"])
    kept = skb.shinfo.frags[1].memory
    truesize = skb.truesize
    assert pskb_may_pull(kit.skbs, skb, 4)
    assert skb.data_len == 10
    assert pskb_may_pull(kit.skbs, skb, 11)
    assert (skb.headlen, skb.data_len, skb.len) == (11, 3, 14)
    assert [frag.memory for frag in skb.shinfo.frags] == [kept]
    assert len(kit.owner.released) == 1, "the fragment that is empty now is given back"
    assert kit.bytes(skb) == b"headfrag1frag2"
    assert skb.truesize == truesize, "as in the kernel, which does not count again"
    assert not pskb_may_pull(kit.skbs, skb, 15)
    free(kit, skb)


def test_a_pull_for_which_there_is_no_room_moves_the_head() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [bytes(3000)])
    assert pskb_may_pull(kit.skbs, skb, 2500)
    assert (skb.headlen, kit.bytes(skb)) == (2500, b"head" + bytes(3000))
    free(kit, skb)


def test_a_pull_leaves_a_clones_fragments_alone() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag1", b"frag2"])
    clone = clone_of(kit, skb)
    assert pskb_may_pull(kit.skbs, skb, 9)
    assert kit.bytes(skb) == kit.bytes(clone) == b"headfrag1frag2"
    assert (len(skb.shinfo.frags), len(clone.shinfo.frags)) == (1, 2)
    assert not clone.shared
    assert not skb.shared
    free(kit, clone, skb)


def test_a_copy_on_write() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcdefgh", recycles=True)
    page = skb.head.address
    assert skb_ensure_writable(kit.skbs, skb, 8)
    assert skb.head.address == page, "nothing is copied that need not be"
    assert not skb_ensure_writable(kit.skbs, skb, 9)
    clone = clone_of(kit, skb)
    assert skb_ensure_writable(kit.skbs, skb, 8)
    skb_store(kit.core, skb, 0, b"XY")
    assert (kit.bytes(skb), kit.bytes(clone)) == (b"XYcdefgh", b"abcdefgh")
    assert skb.truesize == KMALLOC_1K + SIZEOF_SK_BUFF
    free(kit, skb, clone)


def test_room_before_the_data() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcdefgh")
    skb.network_header = skb.data + 2
    assert skb_cow_head(kit.skbs, skb, HEADROOM)
    assert not kit.owner.released
    assert skb_cow_head(kit.skbs, skb, HEADROOM + 1)
    assert kit.owner.released
    assert skb.headroom == HEADROOM + 1
    assert skb.network_header == skb.data + 2
    assert kit.bytes(skb) == b"abcdefgh"
    free(kit, skb)


def test_a_head_does_not_move_under_another_user() -> None:
    kit = SkbKit()
    skb = kit.skbs.skb_get(kit.received(b"abcd"))
    with pytest.raises(SkbError, match="has 2 users"):
        pskb_expand_head(kit.skbs, skb, 0, 0)


def test_truesize_of_a_charged_skb_does_not_change() -> None:
    class Payer:
        def uncharge(self, skb: SkBuff) -> None:
            assert skb.truesize == 4096 + SIZEOF_SK_BUFF

    kit = SkbKit()
    skb = kit.received(b"abcd")
    skb.sk = Payer()
    assert pskb_expand_head(kit.skbs, skb, 0, 0)
    free(kit, skb)


@pytest.mark.parametrize("cloned", [False, True])
def test_an_sk_buff_in_its_buffer_keeps_that_when_the_head_moves(cloned: bool) -> None:
    kit = SkbKit(SkbPolicy(place=Place.HEADROOM))
    skb = kit.received(b"abcd")
    others = [clone_of(kit, skb)] if cloned else []
    assert pskb_expand_head(kit.skbs, skb, 64, 0)
    assert (skb.truesize, skb.head.size) == (4096 + 512, 512)
    for other in others:
        kit.freeing.consume_skb(other)
    assert not kit.owner.released, "the sk_buff itself lies there"
    assert pskb_expand_head(kit.skbs, skb, 64, 0)
    kit.freeing.consume_skb(skb)
    assert len(kit.owner.released) == 1
    kit.finish()


def test_cutting() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag1", b"frag2"])
    for length, frags, released in ((13, 2, 0), (9, 1, 1), (6, 1, 1), (4, 0, 2), (1, 0, 2), (0, 0, 2)):
        assert pskb_trim(kit.skbs, skb, length)
        assert kit.bytes(skb) == b"headfrag1frag2"[:length]
        assert (len(skb.shinfo.frags), len(kit.owner.released)) == (frags, released)
    with pytest.raises(SkbError, match="cannot be cut to 1 bytes"):
        pskb_trim(kit.skbs, skb, 1)
    free(kit, skb)


def test_cutting_leaves_a_clone_whole() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag1", b"frag2"])
    clone = clone_of(kit, skb)
    assert pskb_trim(kit.skbs, clone, 6)
    assert (kit.bytes(clone), kit.bytes(skb)) == (b"headfr", b"headfrag1frag2")
    free(kit, skb, clone)


def test_few_bytes_are_copied_into_the_tail() -> None:
    kit = SkbKit()
    target, source = kit.received(b"abcd"), kit.copied(b"efgh")
    truesize = target.truesize
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, source) == 0
    assert (kit.bytes(target), target.truesize) == (b"abcdefgh", truesize)
    assert kit.skbs.statistics.coalesced == 1
    free(kit, target)


def test_a_head_is_stolen() -> None:
    kit = SkbKit()
    target = kit.copied(b"abcd", [b"efgh"])
    source = kit.received(b"ijkl")
    truesize = target.truesize
    skb_pull(source, 1)
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, source) == 4096
    assert (kit.bytes(target), target.truesize) == (b"abcdefghjkl", truesize + 4096)
    assert not kit.owner.released
    free(kit, target)
    assert len(kit.owner.released) == 2


def test_the_head_of_a_packet_without_linear_bytes_is_freed() -> None:
    kit = SkbKit()
    target, source = kit.copied(b"abcd", [b"efgh"]), kit.copied(b"", [b"ijkl", b"mnop"])
    truesize = target.truesize
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, source) == 2 * 4096
    assert (kit.bytes(target), target.truesize) == (b"abcdefghijklmnop", truesize + 2 * 4096)
    free(kit, target)


def test_fragments_of_a_clone_get_another_reference() -> None:
    kit = SkbKit()
    target, source = kit.copied(b"abcd", [b"efgh"]), kit.copied(b"", [b"ijkl"])
    clone = clone_of(kit, source)
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, source) == 4096
    kit.freeing.consume_skb(target)
    assert kit.bytes(clone) == b"ijkl"
    free(kit, clone)


def test_what_is_not_joined() -> None:
    kit = SkbKit()
    target = kit.copied(b"abcd", [b"efgh"])
    pooled = kit.received(b"ijkl", recycles=True)
    kmalloc = kit.copied(b"ijkl", [b"mnop"])
    shared = kit.received(b"ijkl")
    clone = clone_of(kit, shared)
    for source, why in ((pooled, "of a pool"), (kmalloc, "head of kmalloc"), (shared, "head shared by a clone")):
        before = (target.truesize, target.len, source.truesize, source.len)
        assert skb_try_coalesce(kit.skbs, kit.freeing, target, source) is None, why
        assert (target.truesize, target.len, source.truesize, source.len) == before
    assert skb_try_coalesce(kit.skbs, kit.freeing, shared, kit.copied(b"x")) is None, "a clone sees the tail"
    assert kit.skbs.statistics.coalesced == 0
    kit.freeing.kfree_skb_list([target, pooled, kmalloc, shared, clone])
    last = list(kit.host.live_skbs)
    free(kit, *last)


def test_an_skb_whose_clone_is_gone_takes_bytes_again() -> None:
    kit = SkbKit()
    target = kit.received(b"abcd")
    kit.freeing.consume_skb(clone_of(kit, target))
    assert target.cloned
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, kit.copied(b"efgh")) == 0
    free(kit, target)


def test_no_more_than_seventeen_fragments() -> None:
    kit = SkbKit()
    target = kit.copied(b"a", [b"b"] * (MAX_SKB_FRAGS - 1))
    two, one, empty = kit.copied(b"", [b"c", b"d"]), kit.received(b"e"), kit.copied(b"", [b"f"])
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, two) is None
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, one) is not None
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, empty) is None
    memory = kit.buffer()
    with pytest.raises(SkbError, match="has 17 fragments already"):
        skb_add_rx_frag(kit.skbs, target, memory, memory.address, 1)
    memory.put(kit.skbs)
    free(kit, target, two, empty)


@pytest.mark.parametrize("place", list(Place))
def test_joining_counts_each_sk_buff_once(place: Place) -> None:
    kit = SkbKit(SkbPolicy(place=place))
    target = kit.received(b"abcd")
    skb_put(target, target.tailroom)
    assert skb_try_coalesce(kit.skbs, kit.freeing, target, kit.received(b"efgh")) == 4096
    assert target.truesize == 2 * 4096 + (SIZEOF_SK_BUFF if place is Place.SLAB else 0)
    free(kit, target)


def test_without_memory_nothing_changes() -> None:
    kit = SkbKit(FRAGMENT, memory=1 << 20)
    skb, pieces = kit.received(b"abcd"), kit.copied(b"head", [b"frag"])
    clones = [clone_of(kit, skb), clone_of(kit, pieces)]
    hoard = list(iter(kit.pages.alloc_pages, None))
    while kit.skbs.slab.kmalloc(64 + SIZEOF_SHARED_INFO) is not None:
        pass
    while kit.skbs.slab.kmalloc(KMALLOC_1K) is not None:
        pass
    assert not pskb_expand_head(kit.skbs, skb, 64, 0)
    assert not skb_ensure_writable(kit.skbs, skb, 4)
    assert not skb_cow_head(kit.skbs, skb, 500)
    assert not pskb_may_pull(kit.skbs, pieces, 6)
    assert not pskb_trim(kit.skbs, pieces, 6)
    assert (kit.bytes(skb), kit.bytes(pieces)) == (b"abcd", b"headfrag")
    assert hoard
    kit.freeing.kfree_skb_list([skb, pieces, *clones])
    assert kit.skbs.statistics.allocated == kit.skbs.statistics.freed
