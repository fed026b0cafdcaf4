# SPDX-License-Identifier: BSD-2-Clause
"""Counters of SKBs after scripts, each step derived by hand from what the kernel's code does: a NAPI cache of 64 that
is filled by 16 and, when full, gives 32 back; lists freed by 16."""

from driver_model.net.skb.edit import skb_try_coalesce
from driver_model.net.skb.policy import SkbPolicy
from driver_model.net.skb.sk_buff import SkBuff
from tests.driver_model.ledger import Ledger
from tests.driver_model.net.skb.skb_kit import SkbKit

SHORT, LONG = b"abcd", bytes(3000)


def ledger(kit: SkbKit) -> Ledger:
    return Ledger(lambda: {name.removeprefix("skb_"): n for name, n in kit.skbs.statistics.as_dict().items()})


def outside(kit: SkbKit, count: int) -> list[SkBuff]:
    """SKBs that are not made in a poll: the NAPI cache has no part in them."""
    skbs = []
    for _ in range(count):
        skb = kit.skbs.alloc_skb(100)
        assert skb is not None
        skbs.append(skb)
    return skbs


def test_every_counter_of_a_script() -> None:
    kit = SkbKit()
    count, freeing, cache = ledger(kit), kit.freeing, lambda: len(kit.skbs.napi_cache)
    # The cache is empty: 16 are fetched, and the one that is taken of them was not there to be reused.
    skbs = [kit.received(SHORT)]
    count.step(allocated=1)
    # Of 20 more, 15 were there; 16 are fetched for the next, and 4 of them were there for the last.
    skbs += [kit.received(SHORT) for _ in range(20)]
    count.step(allocated=20, napi_reused=19)
    assert cache() == 11
    # Outside of a poll they are freed to the slab.
    for skb in skbs[:5]:
        freeing.consume_skb(skb)
    count.step(freed=5)
    assert cache() == 11
    # In a poll they are kept.
    for skb in skbs[5:]:
        freeing.napi_consume_skb(skb, 64)
    count.step(freed=16)
    assert cache() == 27
    # With the 37th of 40 more the cache is full, and half of it goes.
    skbs = outside(kit, 40)
    count.step(allocated=40)
    for skb in skbs:
        freeing.napi_consume_skb(skb, 64)
    count.step(freed=40, bulk_freed=32)
    assert cache() == 35
    # A list is freed in bulk, but for the one that somebody else has, too.
    skbs = outside(kit, 40)
    kit.skbs.skb_get(skbs[7])
    count.step(allocated=40)
    freeing.kfree_skb_list(skbs)
    count.step(freed=39, bulk_freed=39)
    freeing.consume_skb(skbs[7])
    count.step(freed=1)
    # A clone is an SKB, its sk_buff the slab's.
    (skb,) = outside(kit, 1)
    clone = kit.skbs.skb_clone(skb)
    assert clone is not None
    count.step(allocated=2)
    freeing.consume_skb(skb)
    freeing.consume_skb(clone)
    count.step(freed=2)
    # Bytes that fit behind another packet's are copied there, of others the head is taken: one SKB ends either way.
    for data in (SHORT, LONG):
        target, source = kit.received(data), kit.received(data)
        count.step(allocated=2, napi_reused=2)
        assert skb_try_coalesce(kit.skbs, freeing, target, source) is not None
        count.step(coalesced=1, freed=1)
        freeing.napi_consume_skb(target, 64)
        count.step(freed=1)
    assert cache() == 35 - 2
    # What cannot be joined counts nothing: one goes back to a pool, the other does not.
    target, source = kit.received(SHORT), kit.received(SHORT, recycles=True)
    count.step(allocated=2, napi_reused=2)
    assert skb_try_coalesce(kit.skbs, freeing, target, source) is None
    count.step()
    freeing.kfree_skb_list([target, source])
    count.step(freed=2, bulk_freed=2)
    # What the cache keeps were SKBs once: it is given back without being counted.
    freeing.drain()
    count.step()
    assert cache() == 0
    kit.finish()


def test_heads_count_where_they_are_freed_in_bulk() -> None:
    kit = SkbKit(SkbPolicy(bulk_heads=True))
    count = ledger(kit)
    # Of 40 SKBs in a list, one shares its head with a clone, which keeps it.
    skbs = outside(kit, 40)
    clone = kit.skbs.skb_clone(skbs[0])
    assert clone is not None
    kit.freeing.kfree_skb_list(skbs)
    count.step(allocated=41, freed=40, bulk_freed=40, heads_bulk_freed=39)
    # In a poll the head waits for the end of the softirq, the sk_buff stays in the NAPI cache.
    kit.freeing.napi_consume_skb(clone, 64)
    count.step(freed=1)
    kit.freeing.flush()
    count.step(heads_bulk_freed=1)
    # Outside of one, each goes by itself.
    kit.freeing.consume_skb(outside(kit, 1)[0])
    count.step(allocated=1, freed=1)
    kit.finish()


def test_without_memory_an_skb_counts_as_failed_alone() -> None:
    kit = SkbKit(memory=1 << 20)
    count = ledger(kit)
    skbs = outside(kit, 1)
    count.step(allocated=1)
    hoard = list(iter(kit.pages.alloc_pages, None))
    made = list(iter(lambda: kit.skbs.alloc_skb(100), None))
    count.step(allocated=len(made), failed=1)
    for page in hoard:
        assert page is not None
        kit.pages.put_page(page)
    for skb in (*skbs, *made):
        assert skb is not None
        kit.freeing.consume_skb(skb)
    count.step(freed=1 + len(made))
    kit.finish()
