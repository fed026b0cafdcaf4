# SPDX-License-Identifier: BSD-2-Clause
"""A qdisc that drops the oldest in batches, as fq_codel does; and bulk free that a softirq interrupts."""

from typing import Any

import pytest

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.memory.pages.zone import Zone
from driver_model.net.qdisc import Qdisc
from driver_model.net.skb.policy import Delay, HeadMemory, SkbPolicy
from driver_model.net.skb.sk_buff import SkBuff, skb_put
from tests.driver_model.cpu.machine import run
from tests.driver_model.fake_platform import FakePlatform

MEMORY = 4 << 20


class Busy:
    """A device that has no room."""

    def start_xmit(self, skb: SkBuff, more: bool) -> bool:
        """Take nothing."""
        return False


class Kit:
    """A qdisc before such a device."""

    def __init__(self, policy: SkbPolicy, **options: Any) -> None:
        self.platform = FakePlatform(MEMORY, log=False)
        (self.core,) = System(self.platform, Profile.load("e5-1650v4")).cores
        self.host = Host([self.core], zone=Zone(MEMORY, min_free_kbytes=0), skb_policy=policy)
        self.softnet = self.host.softnets[0]
        self.qdisc = Qdisc(self.softnet, Busy(), **options)

    def skb(self) -> SkBuff:
        """A packet."""
        skb = self.softnet.skbs.alloc_skb(60)
        assert skb is not None
        skb_put(skb, 60)
        return skb

    def xmit(self, count: int) -> list[bool]:
        """Send so many."""
        return list(
            run(self.platform, self.core, lambda: [self.qdisc.dev_queue_xmit(self.skb()) for _ in range(count)])
        )

    def count(self, operation: str) -> int:
        """How often it was charged."""
        return self.core.op(operation).count


@pytest.mark.parametrize(("limit", "batch", "left"), [(8, 64, 5), (8, 3, 6), (100, 64, 51), (200, 64, 137)])
def test_above_the_limit_the_oldest_half_is_dropped_or_a_batch(limit: int, batch: int, left: int) -> None:
    kit = Kit(SkbPolicy(), limit=limit, drop_batch=batch)
    assert kit.xmit(limit) == [True] * limit
    assert (kit.qdisc.backlog, kit.qdisc.statistics.drops) == (limit, 0)
    assert kit.xmit(1) == [True]
    assert (kit.qdisc.backlog, kit.qdisc.statistics.drops) == (left, limit + 1 - left)
    assert kit.softnet.skbs.statistics.freed == limit + 1 - left


def test_a_batch_is_freed_in_bulk_as_the_policy_says() -> None:
    found = {}
    for name, policy in (
        ("bulk", SkbPolicy()),
        ("one by one", SkbPolicy(bulk_lists=False)),
        ("under the lock", SkbPolicy(delay=Delay.NONE)),
    ):
        kit = Kit(policy, limit=64, drop_batch=32)
        kit.xmit(65)
        found[name] = kit.count("slab.free"), kit.count("slab.free_bulk")
    heads = 32  # of kmalloc, each by itself
    assert found == {"bulk": (heads, 32), "one by one": (heads + 32, 0), "under the lock": (heads + 32, 0)}


def test_without_batches_what_finds_the_qdisc_full_is_dropped() -> None:
    kit = Kit(SkbPolicy(), limit=4)
    assert kit.xmit(6) == [True] * 4 + [False] * 2
    assert (kit.qdisc.backlog, kit.qdisc.statistics.drops) == (4, 2)


@pytest.mark.parametrize("batch", [-1, True, 1.5])
def test_a_batch_that_is_none_is_refused(batch: Any) -> None:
    with pytest.raises(ValueError, match="drop_batch must be an integer, 0 or more, not"):
        Kit(SkbPolicy(), drop_batch=batch)


def test_heads_that_are_freed_in_bulk_are_freed_once_whatever_comes_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit(SkbPolicy(head_memory=HeadMemory.KMALLOC, bulk_heads=True))
    freeing, slab = kit.softnet.freeing, kit.softnet.slab
    free = slab.kfree_bulk

    def interrupted(objects: Any) -> None:
        freeing.flush()
        free(objects)

    def body() -> None:
        monkeypatch.setattr(slab, "kfree_bulk", interrupted)
        freeing.kfree_skb_list([kit.skb() for _ in range(3)])

    run(kit.platform, kit.core, body)
    assert kit.softnet.skbs.statistics.heads_bulk_freed == 3
