# SPDX-License-Identifier: BSD-2-Clause
"""SKBs end here (``net/core/skbuff.c``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from driver_model.memory.site import caller, told
from driver_model.net.skb.alloc import NAPI_SKB_CACHE_HALF, NAPI_SKB_CACHE_SIZE, SkbAllocator
from driver_model.net.skb.memory import KmallocMemory
from driver_model.net.skb.policy import Delay, NapiCache
from driver_model.net.skb.sk_buff import SkbError, SkBuff

if TYPE_CHECKING:
    from driver_model.cpu.timers import Timers
    from driver_model.memory.slab.allocator import SlabObject

KFREE_SKB_BULK_SIZE = 16
GRACE_PERIOD_PS = 4 * 10**9  #: from call_rcu to its callback where nothing hurries: some ticks at HZ=1000


class SkbFreeing:
    """Frees SKBs of one core, as the policy of its allocator says.

    Charged are, beside what slab, pages and pools cost by themselves: ``skb.release`` for an SKB's state and members;
    ``atomic`` where it or its head is shared; ``skb.napi_put`` for an sk_buff that goes into the NAPI cache.

    Parameters
    ----------
    skbs : the core's allocator
    timers : the core's, for what is freed a grace period later
    """

    def __init__(self, skbs: SkbAllocator, timers: Timers) -> None:
        self.skbs = skbs
        self.core = core = skbs.core
        self.timers = timers
        self._slab = skbs.slab
        self._spend = core.spend
        self._op_release = core.op("skb.release")
        self._op_napi_put = core.op("skb.napi_put")
        self._collected: list[SlabObject] = []
        self._heads: list[SlabObject] = []
        self._grace: list[SkBuff] = []
        self._due = False

    @property
    def waiting(self) -> int:
        """SKBs that wait for the end of a grace period."""
        return len(self._grace)

    def consume_skb(self, skb: SkBuff) -> None:
        """Its user is done with an SKB: ``consume_skb``, or ``kfree_skb`` where it is dropped (whoever drops it
        counts)."""
        self.napi_consume_skb(skb, 0)

    def napi_consume_skb(self, skb: SkBuff, budget: int) -> None:
        """The same in a poll, whose budget is not 0: the sk_buff may stay for the next packets."""
        if self.skbs.policy.delay is Delay.RCU:
            self._after_grace_period(skb)
        else:
            self._free(skb, napi=budget > 0)

    def kfree_skb_list(self, skbs: Sequence[SkBuff]) -> None:
        """Free many: what is dropped, or was collected to be freed."""
        policy = self.skbs.policy
        if not policy.bulk_lists:
            for skb in skbs:
                self.consume_skb(skb)
            return
        batch: list[SlabObject] = []
        for skb in skbs:
            if self._release(skb, bulk=True) and skb.struct is not None:
                batch.append(skb.struct)
                if len(batch) == KFREE_SKB_BULK_SIZE:
                    self._bulk(batch)
        self._bulk(batch)
        self._free_heads()

    def kfree_skb_partial(self, skb: SkBuff, *, head_stolen: bool) -> None:
        """Free an SKB whose head, where ``head_stolen``, another has now."""
        if not head_stolen:
            self.consume_skb(skb)
            return
        self._end(skb)
        if skb.struct is not None:
            self._slab.kmem_cache_free(skb.struct)

    def flush(self) -> None:
        """``__kfree_skb_flush``: a softirq ends, and what it collected is freed."""
        self._bulk(self._collected)
        self._free_heads()

    def drain(self) -> None:
        """The device goes away: free what waits, and what the NAPI cache keeps."""
        self._grace_ends()
        self.flush()
        cached, self.skbs.napi_cache = self.skbs.napi_cache, []
        if cached:
            self.skbs.forget(cached)
            self._slab.kmem_cache_free_bulk(cached)

    # Parts

    def _free(self, skb: SkBuff, *, napi: bool) -> None:
        if not self._release(skb, bulk=napi) or skb.struct is None:
            return
        kind = self.skbs.policy.napi_cache
        if not napi or kind is NapiCache.OFF:
            self._slab.kmem_cache_free(skb.struct)
        elif kind is NapiCache.BULK_FREE:
            self._spend(self._op_napi_put)
            self._collected.append(skb.struct)
            if len(self._collected) == NAPI_SKB_CACHE_SIZE:
                self._bulk(self._collected)
                self._free_heads()
        else:
            self._keep(skb.struct)

    def _keep(self, struct: SlabObject) -> None:
        """``napi_skb_cache_put``."""
        self._spend(self._op_napi_put)
        cached = self.skbs.napi_cache
        cached.append(struct)
        if len(cached) == NAPI_SKB_CACHE_SIZE:
            surplus = cached[NAPI_SKB_CACHE_HALF:]
            del cached[NAPI_SKB_CACHE_HALF:]
            self.skbs.forget(surplus)
            self._bulk(surplus)
            self._free_heads()

    def _release(self, skb: SkBuff, *, bulk: bool) -> bool:
        """``skb_unref`` and ``skb_release_all``; whether the sk_buff is to be freed. ``bulk``: others follow."""
        if skb.users <= 0:
            raise SkbError(f"Double free of {skb!r} at {told(caller())}, {self.core.time} ps: {skb.freed}")
        if skb.users > 1:
            self._spend(self.skbs.op_atomic)
            skb.users -= 1
            return False
        self._end(skb)
        self._release_data(skb, bulk=bulk)
        if skb.container is not None:
            skb.container.put(self.skbs)
        return True

    def _end(self, skb: SkBuff) -> None:
        """``skb_release_head_state``: nothing knows the SKB any more."""
        skb.users = 0
        skbs = self.skbs
        if skbs.checker is None:
            skb.freed = "freed before"
        else:
            skbs.checker.freed(self.core, skb)
        skbs.statistics.freed += 1
        self._spend(self._op_release)
        if skb.sk is not None:
            skb.sk.uncharge(skb)
            skb.sk = None

    def _release_data(self, skb: SkBuff, *, bulk: bool) -> None:
        """``skb_release_data``."""
        shinfo = skb.shinfo
        if skb.cloned:
            self._spend(self.skbs.op_atomic)
            shinfo.dataref -= 1
            if shinfo.dataref:
                # One of those that share must be responsible for recycling: the last.
                skb.pp_recycle = False
                return
        for frag in shinfo.frags:
            frag.memory.put(self.skbs)
        head = skb.head
        if bulk and self.skbs.policy.bulk_heads and isinstance(head, KmallocMemory) and head.users == 1:
            head.users = 0
            if self.skbs.checker is not None:
                self.skbs.checker.detached(head)
            self._heads.append(head.object)
        else:
            head.put(self.skbs)

    def _bulk(self, structs: list[SlabObject]) -> None:
        """Free sk_buffs in bulk, and empty the list."""
        if structs:
            self.skbs.statistics.bulk_freed += len(structs)
            self._slab.kmem_cache_free_bulk(structs)
            structs.clear()

    def _free_heads(self) -> None:
        heads, self._heads = self._heads, []
        if heads:
            self.skbs.statistics.heads_bulk_freed += len(heads)
            self._slab.kfree_bulk(heads)

    def _after_grace_period(self, skb: SkBuff) -> None:
        skb.holder = "grace period"
        self._grace.append(skb)
        if not self._due:
            self._due = True
            self.timers.add(GRACE_PERIOD_PS, self._grace_ends)

    def _grace_ends(self) -> None:
        """What waited is freed in bulk: nobody can look at it any more."""
        self._due = False
        waited, self._grace = self._grace, []
        batch: list[SlabObject] = []
        for skb in waited:
            if self._release(skb, bulk=True) and skb.struct is not None:
                batch.append(skb.struct)
        self._bulk(batch)
        self._free_heads()
