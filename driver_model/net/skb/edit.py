# SPDX-License-Identifier: BSD-2-Clause
"""SKBs are changed here: headers pulled together, heads made private, packets joined (``net/core/skbuff.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driver_model.net.skb.memory import PacketMemory
from driver_model.net.skb.sk_buff import (
    MAX_SKB_FRAGS,
    NET_SKB_PAD,
    SIZEOF_SHARED_INFO,
    SIZEOF_SK_BUFF,
    SkbError,
    SkbFrag,
    SkbSharedInfo,
    SkBuff,
    skb_load,
    skb_put,
    skb_touch,
    use_after_free,
)

if TYPE_CHECKING:
    from driver_model.net.skb.alloc import SkbAllocator
    from driver_model.net.skb.free import SkbFreeing


def skb_add_rx_frag(skbs: SkbAllocator, skb: SkBuff, memory: PacketMemory, address: int, length: int) -> None:
    """Attach received bytes as a fragment, and count all of their memory in truesize. The SKB takes over the caller's
    reference to it. Raises :class:`SkbError` for one more than ``MAX_SKB_FRAGS``. The caller sets ``pp_recycle``."""
    frags = skb.shinfo.frags
    if len(frags) == MAX_SKB_FRAGS:
        raise SkbError(f"{skb!r} has {MAX_SKB_FRAGS} fragments already")
    skbs.core.spend(skbs.op_frag)
    if skbs.checker is not None:
        skbs.checker.fragment(skb, memory, address, length)
    frags.append(SkbFrag(memory, address, length))
    skb.len += length
    skb.data_len += length
    skb.truesize += memory.size


def pskb_trim(skbs: SkbAllocator, skb: SkBuff, length: int) -> bool:
    """Cut the packet to so many bytes; fragments that are left with none are given back. False without memory to make
    fragments the SKB's own that a clone shares (``___pskb_trim``)."""
    if skb.freed:
        raise use_after_free(skb, "pskb_trim")
    if not 0 <= length <= skb.len:
        raise SkbError(f"{skb!r} cannot be cut to {length!r} bytes")
    if skb.data_len and skb.shared and not pskb_expand_head(skbs, skb, skb.headroom, 0):
        return False
    frags = skb.shinfo.frags
    while skb.len > length and frags:
        last = frags.pop()
        kept = max(0, last.length - (skb.len - length))
        skb.len -= last.length - kept
        skb.data_len -= last.length - kept
        if kept:
            frags.append(last._replace(length=kept))
        else:
            last.memory.put(skbs)
    skb.tail -= skb.len - length
    skb.len = length
    return True


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
    _drop_front(skbs, skb, missing)
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

    As in the kernel: not into an SKB whose head a clone shares, nor between memory that goes back to a pool and memory
    that does not; few bytes are copied into the target's tail where there is room; else not beyond 17 fragments, nor
    from a head that is no page or that a clone shares. Fragments that a clone shares get another reference.
    """
    core, length = skbs.core, source.len
    if target.shared or target.pp_recycle != source.pp_recycle:
        return None
    if length <= target.tailroom:
        if length:
            core.store_owned(skb_put(target, length), skb_load(core, source, 0, length))
            target.touched = max(target.touched, target.tail)
        freeing.consume_skb(source)
        skbs.statistics.coalesced += 1
        return 0
    frags, headlen, shared = source.shinfo.frags, source.headlen, source.shared
    if len(target.shinfo.frags) + len(frags) + (headlen > 0) > MAX_SKB_FRAGS:
        return None
    if headlen and (shared or not source.head.is_page):
        return None
    delta = source.truesize - (0 if source.struct is None else SIZEOF_SK_BUFF)
    if source.container is not None:
        delta -= source.container.size
    if headlen:
        target.shinfo.frags.append(SkbFrag(source.head, source.data, headlen))
    else:
        delta -= source.head.size
    target.shinfo.frags += frags
    if shared:
        for frag in frags:
            frag.memory.get(skbs)
    else:
        source.shinfo.frags = []
    target.len += length
    target.data_len += length
    target.truesize += delta
    skbs.statistics.coalesced += 1
    freeing.kfree_skb_partial(source, head_stolen=headlen > 0)
    if skbs.checker is not None:
        skbs.checker.check(target)
    return delta


def _drop_front(skbs: SkbAllocator, skb: SkBuff, count: int) -> None:
    """Take bytes off the front of the fragments."""
    frags = skb.shinfo.frags
    while count:
        first = frags[0]
        if first.length <= count:
            count -= first.length
            first.memory.put(skbs)
            del frags[0]
        else:
            frags[0] = first._replace(address=first.address + count, length=first.length - count)
            count = 0


def pskb_expand_head(skbs: SkbAllocator, skb: SkBuff, headroom: int, tailroom: int) -> bool:
    """The linear part moves to a new head of kmalloc, with room before and behind it. False without memory.

    Fragments that a clone shares get another reference. Of an SKB that is charged to a socket truesize stays as it is.
    An sk_buff that lies in the old head keeps that.
    """
    if skb.freed:
        raise use_after_free(skb, "pskb_expand_head")
    if skb.users > 1:
        raise SkbError(f"pskb_expand_head of {skb!r}, which has {skb.users} users")
    core, headlen = skbs.core, skb.headlen
    memory = skbs.head(headroom + headlen + tailroom)
    if memory is None:
        return False
    if skbs.checker is not None:
        skbs.checker.attached(skb, memory)
    data = memory.address + headroom
    if headlen:
        skb_touch(core, skb, skb.tail)
        core.store_owned(data, core.load_owned(skb.data, headlen))
    old, shared = skb.head, skb.shared
    stays = skb.struct is None and skb.container is None
    if skb.sk is None:
        skb.truesize += memory.size if stays else memory.size - old.size
    skb.network_header += data - skb.data
    skb.head = memory
    skb.start, skb.end = memory.address, memory.address + memory.size - SIZEOF_SHARED_INFO
    skb.data, skb.tail = data, data + headlen
    skb.touched = skb.tail
    if stays:
        skb.container = old
    if shared:
        core.spend(skbs.op_atomic)
        skb.shinfo.dataref -= 1
        frags = skb.shinfo.frags
        skb.shinfo = SkbSharedInfo()
        for frag in frags:
            frag.memory.get(skbs)
        skb.shinfo.frags = list(frags)
        if stays:
            old.get(skbs)
    elif not stays:
        old.put(skbs)
    skb.cloned = False
    return True
