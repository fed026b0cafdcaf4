# SPDX-License-Identifier: BSD-2-Clause
"""SKBs are changed here: headers pulled together, heads made private, packets joined (``net/core/skbuff.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driver_model.net.skb import (
    MAX_SKB_FRAGS,
    NET_SKB_PAD,
    SIZEOF_SHARED_INFO,
    SIZEOF_SK_BUFF,
    SkbFrag,
    SkbSharedInfo,
    SkBuff,
    skb_load,
    skb_put,
    skb_touch,
    skb_truesize,
)

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.net.skb_alloc import SkbAllocator
    from driver_model.net.skb_free import SkbFreeing


def pskb_may_pull(skbs: SkbAllocator, skb: SkBuff, length: int) -> bool:
    """Make the first bytes linear, if the packet has so many: ``__pskb_pull_tail``. False too where there is no memory
    for a larger head."""
    missing = length - skb.headlen
    if missing <= 0:
        return True
    if length > skb.len:
        return False
    if not skb.writable or skb.end - skb.tail < missing:
        return pskb_expand_head(skbs, skb, skb.headroom, missing) and pskb_may_pull(skbs, skb, length)
    core = skbs.core
    data = skb_load(core, skb, skb.headlen, missing)
    core.store_owned(skb.tail, data)
    skb.tail += missing
    skb.touched = max(skb.touched, skb.tail)
    skb.data_len -= missing
    _drop_front(core, skb, missing)
    return True


def skb_ensure_writable(skbs: SkbAllocator, skb: SkBuff, length: int) -> bool:
    """The first bytes are linear, and this SKB's alone to write; they are copied into a new head where they are not
    (``skb_ensure_writable``, ``skb_cow_head``). False without memory, or for a packet that is too short."""
    if not pskb_may_pull(skbs, skb, length):
        return False
    return skb.writable or pskb_expand_head(skbs, skb, skb.headroom, 0)


def skb_cow_head(skbs: SkbAllocator, skb: SkBuff, headroom: int) -> bool:
    """There is so much room before the data, and the head is this SKB's alone. False without memory."""
    if skb.headroom >= headroom and skb.writable:
        return True
    return pskb_expand_head(skbs, skb, max(headroom, NET_SKB_PAD), 0)


def skb_try_coalesce(skbs: SkbAllocator, freeing: SkbFreeing, target: SkBuff, source: SkBuff) -> int | None:
    """Add a packet's bytes to another's, and free the rest of it. What that adds to the truesize, or None where it
    cannot be: then both are as before.

    As in the kernel: not into a clone, nor between memory that goes back to a pool and memory that does not, nor
    beyond 17 fragments; but few bytes are copied into the target's tail where there is room. A clone's fragments get
    another reference.
    """
    core, length = skbs.core, source.len
    if target.cloned:
        return None
    if length <= target.tailroom and target.writable:
        core.store_owned(skb_put(target, length), skb_load(core, source, 0, length))
        target.touched = max(target.touched, target.tail)
        freeing.consume_skb(source)
        skbs.statistics.coalesced += 1
        return 0
    if target.pp_recycle != source.pp_recycle:
        return None
    frags, headlen = source.shinfo.frags, source.headlen
    if len(target.shinfo.frags) + len(frags) + (headlen > 0) > MAX_SKB_FRAGS:
        return None
    if headlen and (source.cloned or not source.head.is_page):
        return None
    if headlen:
        delta = source.truesize - SIZEOF_SK_BUFF
        target.shinfo.frags.append(SkbFrag(source.head, source.data, headlen, source.end - source.head.address))
    else:
        delta = source.truesize - skb_truesize(source.end - source.head.address)
    target.shinfo.frags += frags
    if source.cloned:
        for frag in frags:
            frag.memory.get(core)
    else:
        source.shinfo.frags = []
    target.len += length
    target.data_len += length
    target.truesize += delta
    skbs.statistics.coalesced += 1
    freeing.kfree_skb_partial(source, head_stolen=headlen > 0)
    return delta


def _drop_front(core: Core, skb: SkBuff, count: int) -> None:
    """Take bytes off the front of the fragments."""
    frags = skb.shinfo.frags
    while count:
        first = frags[0]
        if first.length <= count:
            count -= first.length
            first.memory.put(core)
            del frags[0]
        else:
            frags[0] = first._replace(address=first.address + count, length=first.length - count)
            count = 0


def pskb_expand_head(skbs: SkbAllocator, skb: SkBuff, headroom: int, tailroom: int) -> bool:
    """The linear part moves to a new head, with room before and behind it. False without memory."""
    core, headlen = skbs.core, skb.headlen
    memory = skbs.head(headroom + headlen + tailroom)
    if memory is None:
        return False
    data = memory.address + headroom
    if headlen:
        skb_touch(core, skb, skb.tail)
        core.store_owned(data, core.load_owned(skb.data, headlen))
    old, shared = skb.head, skb.shinfo
    skb.truesize += memory.size - old.size
    skb.network_header += data - skb.data
    skb.head = memory
    skb.data, skb.tail = data, data + headlen
    skb.end = memory.address + memory.size - SIZEOF_SHARED_INFO
    skb.touched = skb.tail
    if skb.cloned and shared.dataref > 1:
        core.spend(core.op("atomic"))
        shared.dataref -= 1
        skb.shinfo = SkbSharedInfo()
        for frag in shared.frags:
            frag.memory.get(core)
        skb.shinfo.frags = list(shared.frags)
        skb.cloned = False
    else:
        old.put(core)
    skb.pp_recycle = skb.pp_recycle and bool(skb.shinfo.frags)
    return True
