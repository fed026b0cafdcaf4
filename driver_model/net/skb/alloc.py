# SPDX-License-Identifier: BSD-2-Clause
"""SKBs are made here (``net/core/skbuff.c``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from driver_model.net.skb.memory import FragmentMemory, KmallocMemory, PacketMemory
from driver_model.net.skb.policy import Clearing, Head, HeadMemory, NapiCache, Place, SkbPolicy
from driver_model.net.skb.sk_buff import (
    NET_SKB_PAD,
    SIZEOF_SHARED_INFO,
    SIZEOF_SK_BUFF,
    SK_BUFF_LINES,
    SkBuff,
    skb_data_align,
    skb_reserve,
    skb_truesize,
    use_after_free,
)

if TYPE_CHECKING:
    from driver_model.memory.pages.page_frag import PageFragCache
    from driver_model.memory.slab.allocator import KmemCache, Slab, SlabObject
    from driver_model.net.skb.checker import SkbChecker

NAPI_SKB_CACHE_SIZE = 64
NAPI_SKB_CACHE_BULK = 16
NAPI_SKB_CACHE_HALF = NAPI_SKB_CACHE_SIZE // 2
_CLONED = ("data", "tail", "len", "data_len", "pp_recycle", "touched", "network_header", "shinfo")
DRIVER_LINES = 2  #: of an sk_buff, those with members that a driver sets


@dataclass(slots=True)
class SkbStatistics:
    """What one core did with SKBs."""

    allocated: int = 0  #: SKBs made, clones among them
    failed: int = 0  #: that could not be made because memory was exhausted
    freed: int = 0
    napi_reused: int = 0  #: of those allocated, sk_buffs that the NAPI cache had
    bulk_freed: int = 0  #: of those freed, sk_buffs that went to the slab in bulk
    heads_bulk_freed: int = 0  #: heads that did
    coalesced: int = 0  #: SKBs whose bytes were added to another

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {f"skb_{name}": value for name, value in asdict(self).items()}


class SkbAllocator:
    """SKBs of one core, and its ``struct napi_alloc_cache``. How each is made is a matter of the policy.

    Charged are, beside what slab, fragments and memory cost by themselves: ``skb.napi_get`` for an sk_buff of the NAPI
    cache; the clearing (``skb.clear`` or what the policy says); ``skb.init`` for its members and the shared info's; and
    ``llc.load`` for each line of a received buffer that becomes shared info or sk_buff and that nobody prefetched, else
    ``cpu.prefetchw``: the CPU wrote there last when the buffer carried another packet, a ring ago.

    Parameters
    ----------
    cache : ``skbuff_head_cache``, of all cores
    slab, frags : slab allocator and page fragments of the core whose SKBs these are
    policy : how
    checker : told of each SKB, or None

    Attributes
    ----------
    napi_cache : sk_buffs that wait to be used again
    op_atomic, op_frag : for those who share memory, and who attach it
    """

    def __init__(
        self,
        cache: KmemCache,
        slab: Slab,
        frags: PageFragCache,
        policy: SkbPolicy,
        checker: SkbChecker | None = None,
    ) -> None:
        self.core = core = slab.core
        self.cache = cache
        self.slab = slab
        self.frags = frags
        self.policy = policy
        self.checker = checker
        self.statistics = SkbStatistics()
        self.napi_cache: list[SlabObject] = []
        self._cleared: set[SlabObject | None] = set()  # of the NAPI cache, those that are zero already
        self._spend = core.spend
        self._op_init = core.op("skb.init")
        self.op_atomic = core.op("atomic")
        self.op_frag = core.op("skb.frag")
        self._op_clone = core.op("skb.clone")
        self._op_napi_get = core.op("skb.napi_get")
        self._op_cold = core.op("cpu.prefetchw" if policy.prefetchw else "llc.load")
        self._op_clear_line = core.op("skb.clear_line")
        self._op_bulk_call = core.op("skb.clear_bulk_call")
        self._op_bulk = core.op("skb.clear_bulk")
        self._op_clear = {
            Clearing.MOVQ: core.op("skb.clear_movq"),
            Clearing.AVX2: core.op("skb.clear_avx2"),
        }.get(policy.clearing, core.op("skb.clear"))
        self._in_buffer = policy.place is not Place.SLAB
        self._fragments = policy.head_memory is HeadMemory.FRAGMENT

    # Received packets

    def build_skb(self, memory: PacketMemory) -> SkBuff | None:
        """``napi_build_skb``: an empty SKB around memory, whose end becomes the shared info. None without memory for
        the sk_buff; the memory is still the caller's then."""
        start, truesize = memory.address, memory.size
        end = start + truesize - SIZEOF_SHARED_INFO
        struct: SlabObject | None = None
        if self._in_buffer:
            if self.policy.place is Place.TAILROOM:
                end -= SIZEOF_SK_BUFF
            else:
                start += SIZEOF_SK_BUFF
            self._spend(self._op_cold, SK_BUFF_LINES)
            self._clear(None)
        else:
            struct = self._struct(napi=True)
            if struct is None:
                return None
            truesize += SIZEOF_SK_BUFF
        self._spend(self._op_cold)
        skb = self._made(SkBuff(struct, memory, start, end, truesize))
        skb.pp_recycle = memory.recycles
        return skb

    def fits(self, memory: PacketMemory, offset: int, length: int) -> bool:
        """Whether an SKB can be built around bytes of this memory."""
        policy = self.policy
        if policy.head is not Head.BUILD or not memory.writable:
            return False
        before = SIZEOF_SK_BUFF if policy.place is Place.HEADROOM else 0
        behind = SIZEOF_SHARED_INFO + (SIZEOF_SK_BUFF if policy.place is Place.TAILROOM else 0)
        return before <= offset and offset + length + behind <= memory.size

    def napi_alloc_skb(self, length: int) -> SkBuff | None:
        """An SKB with room for so many bytes in a head of its own, or None."""
        return self._alloc(length, napi=True)

    def alloc_skb(self, length: int) -> SkBuff | None:
        """The same outside of a poll; the head is always kmalloc's."""
        return self._alloc(length, napi=False)

    def skb_clone(self, skb: SkBuff) -> SkBuff | None:
        """Another sk_buff for the same bytes, which nobody may change then. None without memory."""
        if skb.freed:
            raise use_after_free(skb, "skb_clone")
        struct = self.slab.kmem_cache_alloc(self.cache)
        if struct is None:
            self.statistics.failed += 1
            return None
        self._spend(self._op_clone)
        self._spend(self.op_atomic)
        clone = SkBuff(struct, skb.head, skb.start, skb.end, skb.truesize)
        for name in _CLONED:
            setattr(clone, name, getattr(skb, name))
        if skb.struct is None:
            clone.truesize += SIZEOF_SK_BUFF
        skb.cloned = clone.cloned = True
        skb.shinfo.dataref += 1
        self._count(clone)
        return clone

    def skb_get(self, skb: SkBuff) -> SkBuff:
        """Another reference to the sk_buff itself."""
        if skb.freed:
            raise use_after_free(skb, "skb_get")
        self._spend(self.op_atomic)
        skb.users += 1
        return skb

    def finish_clearing(self, skb: SkBuff) -> None:
        """The packet goes up the stack: what was not cleared yet is."""
        if skb.uncleared:
            if skb.uncleared == SK_BUFF_LINES:
                self._spend(self._op_clear)
            else:
                self._spend(self._op_clear_line, skb.uncleared)
            skb.uncleared = 0

    def head(self, size: int) -> PacketMemory | None:
        """Memory of kmalloc for a head: so many bytes and the shared info (``kmalloc_reserve``)."""
        object_ = self.slab.kmalloc(skb_data_align(size) + SIZEOF_SHARED_INFO)
        return None if object_ is None else KmallocMemory(object_)

    def forget(self, structs: Iterable[SlabObject]) -> None:
        """The NAPI cache gives some back to the slab: whoever gets them clears them."""
        self._cleared.difference_update(structs)

    # Parts

    def _alloc(self, length: int, *, napi: bool) -> SkBuff | None:
        if length < 0:
            raise ValueError(f"An SKB must have room for 0 bytes or more, not {length!r}")
        struct = self._struct(napi=napi)
        if struct is None:
            return None
        memory = self._fragment(length + NET_SKB_PAD) if napi and self._fragments else self.head(length + NET_SKB_PAD)
        if memory is None:
            self.slab.kmem_cache_free(struct)
            self.statistics.failed += 1
            return None
        end = memory.address + memory.size - SIZEOF_SHARED_INFO
        skb = self._made(SkBuff(struct, memory, memory.address, end, skb_truesize(memory.size - SIZEOF_SHARED_INFO)))
        skb_reserve(skb, NET_SKB_PAD)
        return skb

    def _fragment(self, size: int) -> PacketMemory | None:
        """``napi_alloc_frag``, or kmalloc for more than a page."""
        size = skb_data_align(size) + SIZEOF_SHARED_INFO
        if size > self.frags.pages.page_size:
            return self.head(size - SIZEOF_SHARED_INFO)
        fragment = self.frags.page_frag_alloc(size)
        return None if fragment is None else FragmentMemory(fragment)

    def _struct(self, *, napi: bool) -> SlabObject | None:
        """An sk_buff, cleared as far as the policy wants it now."""
        if napi and self.policy.napi_cache is NapiCache.REUSE:
            self._spend(self._op_napi_get)
            cached = self.napi_cache
            if cached:
                self.statistics.napi_reused += 1
            elif not self._fetch():
                return None
            struct = cached.pop()
        else:
            found = self.slab.kmem_cache_alloc(self.cache)
            if found is None:
                self.statistics.failed += 1
                return None
            struct = found
        self._clear(struct)
        return struct

    def _fetch(self) -> bool:
        """Fill the empty NAPI cache."""
        cached = self.napi_cache
        if not self.slab.kmem_cache_alloc_bulk(self.cache, NAPI_SKB_CACHE_BULK, cached):
            self.statistics.failed += 1
            return False
        if self.policy.clearing is Clearing.BULK:
            self._spend(self._op_bulk_call, _runs(cached))
            self._spend(self._op_bulk, len(cached))
            self._cleared.update(cached)
        return True

    def _clear(self, struct: SlabObject | None) -> None:
        clearing = self.policy.clearing
        if struct in self._cleared:
            self._cleared.discard(struct)
        elif clearing is Clearing.SECTION:
            self._spend(self._op_clear_line, DRIVER_LINES)
        elif clearing is not Clearing.DELAYED:
            self._spend(self._op_clear)

    def _made(self, skb: SkBuff) -> SkBuff:
        self._spend(self._op_init)
        clearing = self.policy.clearing
        if clearing is Clearing.SECTION:
            skb.uncleared = SK_BUFF_LINES - DRIVER_LINES
        elif clearing is Clearing.DELAYED:
            skb.uncleared = SK_BUFF_LINES
        self._count(skb)
        return skb

    def _count(self, skb: SkBuff) -> None:
        self.statistics.allocated += 1
        if self.checker is not None:
            self.checker.made(self.core, skb)


def _runs(objects: Sequence[SlabObject]) -> int:
    """Runs of objects that lie side by side."""
    places = sorted(object_.address for object_ in objects)
    return 1 + sum(after - before != SIZEOF_SK_BUFF for before, after in pairwise(places))
