# SPDX-License-Identifier: BSD-2-Clause
"""Where SKBs end: by every policy, one by one and in bulk, at once and later."""

from typing import Any

import pytest

from driver_model.net.skb.free import GRACE_PERIOD_PS
from driver_model.net.skb.policy import Delay, HeadMemory, NapiCache, SkbPolicy
from driver_model.net.skb.sk_buff import SkbError, SkBuff
from tests.driver_model.net.skb.skb_kit import SkbKit


def many(kit: SkbKit, count: int) -> list[SkBuff]:
    return [kit.copied(b"abcd") for _ in range(count)]


class Payer:
    """A socket that SKBs are charged to."""

    def __init__(self) -> None:
        self.uncharged: list[Any] = []

    def uncharge(self, skb: SkBuff) -> None:
        """One is freed."""
        self.uncharged.append(skb)


def test_the_last_reference_frees() -> None:
    kit = SkbKit()
    skb = kit.skbs.skb_get(kit.copied(b"abcd"))
    atomics = kit.count("atomic")
    kit.freeing.consume_skb(skb)
    assert (skb.users, kit.count("atomic"), kit.skbs.statistics.freed) == (1, atomics + 1, 0)
    assert kit.bytes(skb) == b"abcd"
    kit.freeing.consume_skb(skb)
    assert kit.skbs.statistics.freed == 1
    kit.finish()


def test_a_socket_gets_its_charge_back_once() -> None:
    kit = SkbKit()
    skb, payer = kit.copied(b"abcd"), Payer()
    skb.sk = payer
    kit.freeing.consume_skb(skb)
    assert payer.uncharged == [skb]
    assert skb.sk is None


@pytest.mark.parametrize(
    ("kind", "bulk", "cached", "flushed"),
    [(NapiCache.OFF, 0, 0, 0), (NapiCache.BULK_FREE, 64, 0, 100), (NapiCache.REUSE, 64, 100 - 64 + 12, 64)],
)
def test_a_poll_frees_by_policy(kind: NapiCache, bulk: int, cached: int, flushed: int) -> None:
    """A hundred SKBs. Those that are kept: 112 were fetched, 16 at once, so 12 lie in the cache to begin with."""
    kit = SkbKit(SkbPolicy(napi_cache=kind))
    for skb in many(kit, 100):
        kit.freeing.napi_consume_skb(skb, 64)
    assert (kit.skbs.statistics.bulk_freed, len(kit.skbs.napi_cache)) == (bulk, cached)
    assert kit.count("skb.napi_put") == (0 if kind is NapiCache.OFF else 100)
    kit.freeing.flush()
    assert kit.skbs.statistics.bulk_freed == flushed
    assert kit.count("skb.release") == kit.skbs.statistics.freed == 100
    kit.finish()


def test_half_of_a_full_cache_goes() -> None:
    kit = SkbKit()
    skbs = many(kit, 64)
    kit.freeing.drain()
    for number, skb in enumerate(skbs, 1):
        kit.freeing.napi_consume_skb(skb, 1)
        assert len(kit.skbs.napi_cache) == (number if number < 64 else 32)
    assert kit.skbs.statistics.bulk_freed == 32


def test_outside_of_a_poll_the_cache_is_left_alone() -> None:
    kit = SkbKit()
    skb = kit.copied(b"abcd")
    cached = len(kit.skbs.napi_cache)
    kit.freeing.napi_consume_skb(skb, 0)
    assert len(kit.skbs.napi_cache) == cached
    assert kit.count("skb.napi_put") == 0


@pytest.mark.parametrize(("bulk_lists", "bulk"), [(True, 40), (False, 0)])
def test_a_list(bulk_lists: bool, bulk: int) -> None:
    kit = SkbKit(SkbPolicy(bulk_lists=bulk_lists))
    skbs = many(kit, 40)
    kit.skbs.skb_get(skbs[7])
    kit.freeing.kfree_skb_list(skbs)
    assert kit.skbs.statistics.freed == 39
    assert kit.skbs.statistics.bulk_freed == max(0, bulk - 1)
    kit.freeing.consume_skb(skbs[7])
    kit.finish()


def test_heads_in_bulk() -> None:
    kit = SkbKit(SkbPolicy(bulk_heads=True, head_memory=HeadMemory.KMALLOC))
    skbs = many(kit, 40)
    clone = kit.skbs.skb_clone(skbs[0])
    assert clone is not None
    kit.freeing.kfree_skb_list(skbs)
    assert kit.skbs.statistics.heads_bulk_freed == 39, "a clone still has one"
    kit.freeing.napi_consume_skb(clone, 64)
    assert kit.skbs.statistics.heads_bulk_freed == 39, "the head waits for others"
    kit.freeing.flush()
    assert kit.skbs.statistics.heads_bulk_freed == 40
    alone = kit.copied(b"abcd")
    kit.freeing.consume_skb(alone)
    assert kit.skbs.statistics.heads_bulk_freed == 40, "outside of a poll there are no others to wait for"
    kit.finish()


def test_a_grace_period_later() -> None:
    kit = SkbKit(SkbPolicy(delay=Delay.RCU))

    def body() -> None:
        skbs = many(kit, 20)
        for skb in skbs:
            kit.freeing.napi_consume_skb(skb, 64)
        assert (kit.freeing.waiting, kit.skbs.statistics.freed) == (20, 0)
        assert kit.bytes(skbs[0]) == b"abcd", "who looked at it before still may"
        assert skbs[0].holder == "grace period"
        kit.core.sleep_until(kit.core.time + GRACE_PERIOD_PS + 10**8)
        assert (kit.freeing.waiting, kit.skbs.statistics.freed, kit.skbs.statistics.bulk_freed) == (0, 20, 20)
        kit.freeing.consume_skb(kit.copied(b"abcd"))
        assert kit.freeing.waiting == 1

    kit.run(body)
    kit.finish()


def test_a_double_free_in_a_grace_period_is_found_at_its_end() -> None:
    kit = SkbKit(SkbPolicy(delay=Delay.RCU))
    skb = kit.copied(b"abcd")
    kit.freeing.consume_skb(skb)
    kit.freeing.consume_skb(skb)
    with pytest.raises(SkbError, match="Double free"):
        kit.freeing.drain()


def test_memory_given_back_once_too_often() -> None:
    kit = SkbKit()
    memory = kit.buffer()
    memory.put(kit.skbs)
    with pytest.raises(RuntimeError, match="was given back more often than it was taken"):
        memory.put(kit.skbs)
    assert kit.owner.released == [memory.address]


def test_a_buffer_is_given_back_on_its_queues_core() -> None:
    kit, other = SkbKit(), SkbKit()
    with pytest.raises(RuntimeError, match="of core 0 is given back on core 0"):
        kit.buffer().put(other.skbs)
