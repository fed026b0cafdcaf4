# SPDX-License-Identifier: BSD-2-Clause
"""A packet filter that drops everything: the end of the stack's receive path as benchmarks measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driver_model.net.ip import Ipv4
from driver_model.net.skb.sk_buff import SkBuff

if TYPE_CHECKING:
    from driver_model.cpu.profile import Operation
    from driver_model.net.stack import NetStack


class FilterDrop:
    """``iptables -t raw -A PREROUTING -j DROP``: charged are ``net.filter_drop`` and the SKB's end.

    The SKB ends by ``napi_consume_skb``, so that what a policy does with sk_buffs shows here, too; Linux has
    ``kfree_skb``, which gives them to the slab.

    Attributes
    ----------
    dropped : packets
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._op: Operation

    def attach(self, stack: NetStack) -> None:
        """Resolve what a packet costs."""
        self._op = stack.core.op("net.filter_drop")

    def handle(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> None:
        """Drop one packet, in the poll that received it."""
        stack.core.spend(self._op)
        self.dropped += 1
        stack.freeing.napi_consume_skb(skb, 1)

    def close(self) -> None:
        """Nothing is kept."""
