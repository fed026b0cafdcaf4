# SPDX-License-Identifier: BSD-2-Clause
"""Sending SKBs by a device: its queueing discipline (``net/core/dev.c``, ``net/sched/sch_generic.c``)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from driver_model.cpu.locks import SpinLock
from driver_model.cpu.softirq import SoftirqVector
from driver_model.net.skb import SkBuff
from driver_model.net.skb_policy import Delay

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.net.napi import Softnet
    from driver_model.net.skb_free import SkbFreeing

TX_QUEUE_LENGTH = 1000  #: ``txqueuelen`` of an Ethernet device
DEV_TX_WEIGHT = 64  #: ``dev_tx_weight``: SKBs that one run of a qdisc sends


class Transmitter(Protocol):
    """``ndo_start_xmit`` of a queue pair."""

    def start_xmit(self, skb: SkBuff, more: bool) -> bool:
        """Take an SKB; False if there is no room now. ``more``: another one follows at once."""


@dataclass(slots=True)
class QdiscStatistics:
    """As ``tc -s qdisc`` shows them."""

    bytes: int = 0
    packets: int = 0  #: sent
    drops: int = 0
    requeues: int = 0  #: handed to the device, which had no room


class Qdisc:
    """``pfifo`` before one sending queue: SKBs wait here while the device has no room, and are dropped when there are
    too many.

    An SKB that meets an empty qdisc goes straight to the device (``TCQ_F_CAN_BYPASS``). What is dropped is freed under
    the qdisc's lock, one by one, or, where the policy says so, collected and freed as a list behind it. Charged are
    ``net.xmit`` for each SKB, ``net.qdisc_enqueue`` and ``net.qdisc_dequeue`` for each that waits, and the lock.

    Parameters
    ----------
    softnet : network state of the queue's core
    transmitter : the queue pair's sending of SKBs
    limit : SKBs that may wait

    Attributes
    ----------
    backlog : SKBs that wait
    """

    def __init__(self, softnet: Softnet, transmitter: Transmitter, limit: int = TX_QUEUE_LENGTH) -> None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ValueError(f"limit must be an integer, 1 or more, not {limit!r}")
        self.softnet = softnet
        self.limit = limit
        self.statistics = QdiscStatistics()
        self.lock = SpinLock("qdisc")
        self._transmitter = transmitter
        self._waiting: deque[SkBuff] = deque()
        self._scheduled = False
        self._stopped = False
        core = softnet.core
        self._op_xmit = core.op("net.xmit")
        self._op_enqueue = core.op("net.qdisc_enqueue")
        self._op_dequeue = core.op("net.qdisc_dequeue")

    @property
    def backlog(self) -> int:
        """SKBs that wait."""
        return len(self._waiting)

    def dev_queue_xmit(self, skb: SkBuff) -> bool:
        """Send an SKB now or later: True; False if it was dropped (``NET_XMIT_DROP``)."""
        core = self.softnet.core
        core.spend(self._op_xmit)
        to_free: list[SkBuff] = []
        self.lock.acquire(core)
        if not self._waiting and not self._stopped:
            if not self._start(skb, more=False):
                self._requeue(skb)
        elif len(self._waiting) >= self.limit:
            self.statistics.drops += 1
            if self._freeing.skbs.policy.delay is Delay.QDISC:
                to_free.append(skb)
            else:
                self._freeing.consume_skb(skb)
            self.lock.release(core)
            self._freeing.kfree_skb_list(to_free)
            return False
        else:
            core.spend(self._op_enqueue)
            skb.holder = "qdisc"
            self._waiting.append(skb)
            if not self._stopped:
                self._run(core)
        self.lock.release(core)
        return True

    def wake(self) -> None:
        """``netif_tx_wake_queue``: the device has room again; the softirq NET_TX goes on."""
        self._stopped = False
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self.softnet.output_queue.append(self)
            self.softnet.core.softirq.raise_(SoftirqVector.NET_TX)

    def run(self) -> None:
        """``qdisc_run``, from the softirq: send what waits, a weight of it at most."""
        core = self.softnet.core
        self._scheduled = False
        self.lock.acquire(core)
        self._run(core)
        self.lock.release(core)

    def reset(self) -> None:
        """``qdisc_reset``: the device goes away; what waits is dropped."""
        waiting, self._waiting = list(self._waiting), deque()
        self.statistics.drops += len(waiting)
        self._freeing.kfree_skb_list(waiting)
        self._stopped = False

    @property
    def _freeing(self) -> SkbFreeing:
        return self.softnet.freeing

    def _run(self, core: Core) -> None:
        for left in range(DEV_TX_WEIGHT - 1, -1, -1):
            if not self._waiting or self._stopped:
                return
            core.spend(self._op_dequeue)
            skb = self._waiting.popleft()
            if not self._start(skb, more=left > 0 and len(self._waiting) > 0):
                self._requeue(skb)
                return
        if self._waiting:
            self.wake()

    def _start(self, skb: SkBuff, *, more: bool) -> bool:
        size = skb.len
        if not self._transmitter.start_xmit(skb, more):
            return False
        self.statistics.packets += 1
        self.statistics.bytes += size
        return True

    def _requeue(self, skb: SkBuff) -> None:
        """``dev_requeue_skb``: the device has no room; it says when there is."""
        self.statistics.requeues += 1
        self._stopped = True
        skb.holder = "qdisc"
        self._waiting.appendleft(skb)


def net_tx_action(softnet: Softnet) -> None:
    """The NET_TX softirq: run the qdiscs that were woken."""
    woken, softnet.output_queue = softnet.output_queue, []
    for qdisc in woken:
        qdisc.run()
    softnet.freeing.flush()
