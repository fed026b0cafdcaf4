# SPDX-License-Identifier: BSD-2-Clause
"""A connection whose owner never reads: the fragment pin-down attack on a driver's memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from driver_model.cpu.locks import SpinLock
from driver_model.net.ip import Ipv4
from driver_model.net.local_socket import RMEM_DEFAULT
from driver_model.net.skb.sk_buff import SkBuff

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.net.stack import NetStack


@dataclass(slots=True)
class PinStatistics:
    """What became of the packets of the attacker, and of the others'."""

    held: int = 0  #: packets of the attacker that lie in the receive buffer
    truesize: int = 0  #: that they are charged with (``sk_rmem_alloc``)
    dropped: int = 0  #: packets of the attacker that the receive buffer had no room for (``sk_drops``)
    others: int = 0  #: packets of others, each freed at once

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {f"pin_{name}": value for name, value in asdict(self).items()}


class PinSocket:
    """Keeps every packet that comes from one address until it is closed, within ``rcvbuf``, as a socket does that
    nobody reads; what comes from others is read, and freed, at once.

    Charged are ``sock.demux`` for each packet, and ``sock.enqueue`` and the socket's lock for each that is kept.

    Parameters
    ----------
    core : the socket's
    source : IPv4 address of the attacker
    rcvbuf : bytes of truesize that it is allowed
    """

    def __init__(self, core: Core, source: int, rcvbuf: int = RMEM_DEFAULT) -> None:
        if not isinstance(rcvbuf, int) or isinstance(rcvbuf, bool) or rcvbuf < 1:
            raise ValueError(f"rcvbuf must be an integer, 1 or more, not {rcvbuf!r}")
        self.source = source
        self.rcvbuf = rcvbuf
        self.statistics = PinStatistics()
        self._held: list[SkBuff] = []
        self._stack: NetStack | None = None
        self._core = core
        self._lock = SpinLock("socket")
        self._op_demux = core.op("sock.demux")
        self._op_enqueue = core.op("sock.enqueue")

    def attach(self, stack: NetStack) -> None:
        """The stack that packets come from."""
        self._stack = stack

    def handle(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> None:
        """A packet arrives, in the poll that received it."""
        statistics = self.statistics
        self._core.spend(self._op_demux)
        if header.source != self.source:
            statistics.others += 1
        elif statistics.truesize + skb.truesize > self.rcvbuf:
            statistics.dropped += 1
        else:
            with self._lock.held(self._core):
                self._core.spend(self._op_enqueue)
                statistics.held += 1
                statistics.truesize += skb.truesize
                skb.holder = "pinning socket"
                self._held.append(skb)
            return
        stack.freeing.napi_consume_skb(skb, 1)

    def close(self) -> None:
        """In a process: free what is kept."""
        core, stack = self._core, self._stack
        while self._held and stack is not None:
            core.softirq.disable()
            stack.freeing.consume_skb(self._held.pop())
            core.softirq.enable()
