# SPDX-License-Identifier: BSD-2-Clause
"""Sending SKBs by a device: its queueing discipline (``net/core/dev.c``, ``net/sched/sch_generic.c``)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from driver_model.cpu.locks import SpinLock
from driver_model.cpu.softirq import SoftirqVector
from driver_model.net.skb.policy import Delay
from driver_model.net.skb.sk_buff import SkBuff

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.net.napi import Softnet
    from driver_model.net.skb.free import SkbFreeing

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
    """``pfifo`` before one sending queue, or what ``fq_codel`` does with a single flow: SKBs wait here while the device
    has no room, and are dropped when there are too many.

    An SKB that meets an empty qdisc goes straight to the device (``TCQ_F_CAN_BYPASS``). Those that waited leave by one
    doorbell, as where the byte limit of BQL is never reached: there is none here. What is dropped is freed under the
    qdisc's lock, one by one, or, where the policy says so, collected and freed as a list behind it. Charged are
    ``net.xmit`` for each SKB, ``net.qdisc_enqueue`` and ``net.qdisc_dequeue`` for each that waits, and the lock; not
    ``fq_codel``'s hashing and its search for the flow with the largest backlog, of which no cost is published.

    Parameters
    ----------
    softnet : network state of the queue's core
    transmitter : the queue pair's sending of SKBs
    limit : SKBs that may wait
    drop_batch : 0: an SKB that finds so many is dropped (``pfifo``). Otherwise it is queued, and the oldest are
        dropped, half of what waits but so many at most (``fq_codel_drop``; 64 by default); there is no CoDel, which
        drops what has waited for long

    Attributes
    ----------
    backlog : SKBs that wait
    """

    def __init__(
        self, softnet: Softnet, transmitter: Transmitter, limit: int = TX_QUEUE_LENGTH, drop_batch: int = 0
    ) -> None:
        for name, value, least in (("limit", limit, 1), ("drop_batch", drop_batch, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be an integer, {least} or more, not {value!r}")
        self.softnet = softnet
        self.limit = limit
        self.drop_batch = drop_batch
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
        dropped: list[SkBuff] = []
        self.lock.acquire(core)
        if not self._waiting and not self._stopped:
            if not self._start(skb, more=False):
                self._requeue(skb)
        elif len(self._waiting) >= self.limit and not self.drop_batch:
            dropped.append(skb)
        else:
            core.spend(self._op_enqueue)
            skb.holder = "qdisc"
            self._waiting.append(skb)
            if len(self._waiting) > self.limit:
                count = min(self.drop_batch, len(self._waiting) // 2)
                dropped += [self._waiting.popleft() for _ in range(count)]
            if not self._stopped:
                self._run(core)
        if dropped:
            self._drop(core, dropped)
        else:
            self.lock.release(core)
        return dropped != [skb]

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
        """``qdisc_reset``, in a process: the device goes away; what waits is dropped, without a poll in between."""
        softirq = self.softnet.core.softirq
        softirq.disable()
        waiting, self._waiting = list(self._waiting), deque()
        self.statistics.drops += len(waiting)
        self._freeing.kfree_skb_list(waiting)
        self._stopped = False
        softirq.enable()

    @property
    def _freeing(self) -> SkbFreeing:
        return self.softnet.freeing

    def _drop(self, core: Core, skbs: list[SkBuff]) -> None:
        """Free SKBs, and release the lock: before or after that."""
        self.statistics.drops += len(skbs)
        freeing = self._freeing
        if freeing.skbs.policy.delay is Delay.QDISC:
            self.lock.release(core)
            freeing.kfree_skb_list(skbs)
            return
        for skb in skbs:
            freeing.consume_skb(skb)
        self.lock.release(core)

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
