# SPDX-License-Identifier: BSD-2-Clause
"""The qdisc before a device that has room at times, and the driver's sending of SKBs behind it."""

from collections.abc import Sequence
from typing import Any

import pytest

from driver_model.net.qdisc import DEV_TX_WEIGHT, Qdisc
from driver_model.net.skb.policy import Delay, SkbPolicy
from driver_model.net.skb.sk_buff import SkBuff
from tests.driver_model.net.skb.skb_kit import SkbKit


class Ring:
    """A queue pair with room for so many SKBs."""

    def __init__(self, kit: SkbKit) -> None:
        self.room = 0
        self.got: list[bytes] = []
        self.more: list[bool] = []
        self.kit = kit

    def start_xmit(self, skb: SkBuff, more: bool) -> bool:
        """Take and free one."""
        if not self.room:
            return False
        self.room -= 1
        self.got.append(self.kit.bytes(skb))
        self.more.append(more)
        self.kit.freeing.consume_skb(skb)
        return True


class Kit(SkbKit):
    """A qdisc before a ring."""

    def __init__(self, policy: SkbPolicy | None = None, **options: Any) -> None:
        super().__init__(policy)
        self.ring = Ring(self)
        self.qdisc = Qdisc(self.host.softnets[0], self.ring, **options)

    def xmit(self, *numbers: int) -> list[bool]:
        """Send an SKB for each number."""
        return [self.qdisc.dev_queue_xmit(self.copied(bytes([number]))) for number in numbers]

    def numbers(self) -> list[int]:
        """What the ring got."""
        return [data[0] for data in self.ring.got]


def test_a_process_that_resets_it_is_not_interrupted_by_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit()
    seen: list[bool] = []
    real = kit.freeing.kfree_skb_list

    def free(skbs: Sequence[SkBuff]) -> None:
        seen.append(kit.core.softirq.disabled)
        real(skbs)

    def body() -> None:
        kit.xmit(1, 2, 3)
        monkeypatch.setattr(kit.freeing, "kfree_skb_list", free)
        kit.qdisc.reset()

    kit.run(body)
    assert (seen, kit.qdisc.backlog, kit.qdisc.statistics.drops, kit.core.softirq.disabled) == ([True], 0, 3, False)
    kit.finish()


def test_an_empty_qdisc_is_passed_by() -> None:
    kit = Kit()
    kit.ring.room = 2
    assert kit.xmit(1, 2) == [True, True]
    assert (kit.numbers(), kit.qdisc.backlog) == ([1, 2], 0)
    assert kit.counts("net.xmit", "net.qdisc_enqueue", "net.qdisc_dequeue") == {"net.xmit": 2}
    kit.finish()


def test_what_finds_no_room_waits_and_goes_first() -> None:
    kit = Kit()

    def body() -> None:
        kit.ring.room = 1
        assert kit.xmit(1, 2, 3) == [True] * 3
        assert (kit.numbers(), kit.qdisc.backlog, kit.qdisc.statistics.requeues) == ([1], 2, 1)
        kit.ring.room = 9
        kit.xmit(4)
        assert kit.numbers() == [1], "the device has not said that it has room"
        kit.qdisc.wake()
        kit.core.sleep_until(kit.core.time + 10**8)
        assert (kit.numbers(), kit.qdisc.backlog) == ([1, 2, 3, 4], 0)
        assert kit.ring.more == [False, True, True, False]

    kit.run(body)
    statistics = kit.qdisc.statistics
    assert (statistics.packets, statistics.bytes, statistics.drops) == (4, 4, 0)
    assert kit.counts("net.qdisc_enqueue", "net.qdisc_dequeue") == {"net.qdisc_enqueue": 2, "net.qdisc_dequeue": 3}
    kit.finish()


def test_what_the_device_refuses_goes_first_when_it_has_room() -> None:
    kit = Kit()

    def body() -> None:
        kit.xmit(1, 2, 3, 4)
        for room in (1, 2, 1):
            kit.ring.room = room
            kit.qdisc.wake()
            kit.core.sleep_until(kit.core.time + 10**8)
        assert kit.numbers() == [1, 2, 3, 4]

    kit.run(body)
    assert kit.qdisc.statistics.requeues == 3
    kit.finish()


def test_a_softirq_sends_a_weight_at_once_and_comes_again() -> None:
    kit = Kit()
    count = 3 * DEV_TX_WEIGHT

    def body() -> None:
        kit.xmit(*(number % 256 for number in range(count)))
        kit.ring.room = count
        kit.qdisc.wake()
        kit.core.sleep_until(kit.core.time + 10**9)

    kit.run(body)
    assert kit.numbers() == [number % 256 for number in range(count)]
    kit.finish()


@pytest.mark.parametrize(("delay", "bulk"), [(Delay.QDISC, True), (Delay.NONE, False)])
def test_a_full_qdisc_drops_what_comes(delay: Delay, bulk: bool) -> None:
    kit = Kit(SkbPolicy(delay=delay), limit=3)
    assert kit.xmit(*range(6)) == [True] * 3 + [False] * 3
    assert (kit.qdisc.backlog, kit.qdisc.statistics.drops) == (3, 3)
    assert kit.skbs.statistics.freed == 3
    assert (kit.skbs.statistics.bulk_freed > 0) is bulk
    kit.qdisc.reset()
    assert (kit.qdisc.backlog, kit.qdisc.statistics.drops) == (0, 6)
    kit.finish()


def test_after_a_grace_period() -> None:
    kit = Kit(SkbPolicy(delay=Delay.RCU), limit=1)

    def body() -> None:
        kit.xmit(1, 2)
        assert kit.freeing.waiting == 1

    kit.run(body)
    kit.qdisc.reset()
    kit.finish()


def test_what_waits_in_the_qdisc_is_a_leak_that_says_so() -> None:
    kit = Kit()
    kit.xmit(1)
    assert "held by qdisc" in kit.host.leaks()[0]


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_limits(limit: Any) -> None:
    with pytest.raises(ValueError, match=f"limit must be an integer, 1 or more, not {limit}"):
        Kit(limit=limit)
