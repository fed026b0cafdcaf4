# SPDX-License-Identifier: BSD-2-Clause
"""How a stack makes and frees SKBs: what was proposed, merged or rejected over the years, to be chosen and compared."""

from dataclasses import dataclass
from enum import Enum


class Head(Enum):
    """Where the linear part of a received packet lies."""

    BUILD = "build"  #: in the received buffer, if the CPU may write there (``build_skb``); else as COPY
    COPY = "copy"  #: in a head of its own, into which the headers are copied; the buffer becomes a fragment


class Place(Enum):
    """Where the sk_buff itself lies."""

    SLAB = "slab"  #: an object of ``skbuff_head_cache``
    HEADROOM = "headroom"  #: in the received buffer, before the packet: nothing is allocated
    TAILROOM = "tailroom"  #: likewise, before the shared info


class Clearing(Enum):
    """How the sk_buff is set to zero."""

    MEMSET = "memset"  #: at once, as the kernel does
    MOVQ = "movq"  #: at once, by unrolled 8-byte stores
    AVX2 = "avx2"  #: at once, by 32-byte stores (without what a kernel must do to use those registers)
    BULK = "bulk"  #: those that the NAPI cache fetches together, each run of neighbours at once
    DELAYED = "delayed"  #: when the packet goes up the stack, and not at all where it ends before
    SECTION = "section"  #: the lines that a driver needs at once, the others when the packet goes up


class NapiCache(Enum):
    """What a NAPI poll does with sk_buffs that it frees."""

    OFF = "off"  #: to the slab, one by one (before Linux 4.5)
    BULK_FREE = "bulk_free"  #: collected, and freed 64 at once or at the end of the softirq (4.5)
    REUSE = "reuse"  #: kept for the next packets, half of 64 freed at once when full, 16 fetched when empty (5.13)


class HeadMemory(Enum):
    """What a head is allocated from that a poll makes."""

    FRAGMENT = "fragment"  #: ``napi_alloc_frag`` (until Linux 5.10; since then only above 1 KiB)
    KMALLOC = "kmalloc"  #: as heads always are that are allocated outside of a poll, or later


class Delay(Enum):
    """When what is done with is freed."""

    NONE = "none"  #: at once
    QDISC = "qdisc"  #: what a qdisc drops is collected, and freed as a list when its lock was released (4.8)
    RCU = "rcu"  #: a grace period later, in bulk (proposed in 2016)


@dataclass(frozen=True, slots=True)
class SkbPolicy:
    """Choices; the default is what current kernels do.

    Attributes
    ----------
    head, place, clearing, napi_cache, head_memory, delay : see there
    bulk_lists : lists of SKBs are freed in bulk, 16 at once (``kfree_skb_list`` since 6.3)
    bulk_heads : heads that come from kmalloc are freed in bulk with their sk_buffs (proposed in 2016)
    prefetchw : lines of a received buffer that an sk_buff or shared info will lie in are prefetched for writing
    """

    head: Head = Head.BUILD
    place: Place = Place.SLAB
    clearing: Clearing = Clearing.MEMSET
    napi_cache: NapiCache = NapiCache.REUSE
    head_memory: HeadMemory = HeadMemory.KMALLOC
    delay: Delay = Delay.QDISC
    bulk_lists: bool = True
    bulk_heads: bool = False
    prefetchw: bool = True

    def __post_init__(self) -> None:
        for name, kind in (
            ("head", Head),
            ("place", Place),
            ("clearing", Clearing),
            ("napi_cache", NapiCache),
            ("head_memory", HeadMemory),
            ("delay", Delay),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, not {value!r}")
        if self.place is not Place.SLAB and self.head is Head.COPY:
            raise ValueError(
                f"place must be slab where head is copy, for there is no buffer to lie in, not {self.place!r}"
            )
        if self.bulk_heads and self.head_memory is not HeadMemory.KMALLOC:
            raise ValueError(f"bulk_heads needs head_memory kmalloc, not {self.head_memory!r}")
        if self.clearing is Clearing.BULK and self.napi_cache is not NapiCache.REUSE:
            raise ValueError(f"clearing bulk needs napi_cache reuse, not {self.napi_cache!r}")


#: What the kernels of the founding documents did (4.4 to 4.6): SKBs freed one by one, received pages read-only.
POLICY_2016 = SkbPolicy(
    head=Head.COPY,
    napi_cache=NapiCache.OFF,
    head_memory=HeadMemory.FRAGMENT,
    delay=Delay.NONE,
    bulk_lists=False,
    prefetchw=False,
)
