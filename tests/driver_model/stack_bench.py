# SPDX-License-Identifier: BSD-2-Clause
"""The driver on a fake device with a network stack behind it: what the tests of consumers have in common."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from driver_model.net.forward import Route, RouteTable
from driver_model.net.local_socket import LocalSocket
from driver_model.net.qdisc import TX_QUEUE_LENGTH, Qdisc
from driver_model.net.stack import Handler, NetStack
from tests.driver_model.bench import Bench

NEIGHBOUR = "02:00:00:00:aa:01"  #: the next hop of every route
DEVICE = "02:00:00:00:aa:02"
MS = 10**9


def mac(text: str) -> bytes:
    """An Ethernet address."""
    return bytes.fromhex(text.replace(":", ""))


def forwarded(frame: bytes, source: str | None = None, port: int | None = None) -> bytes:
    """What a frame should be when it was forwarded, and translated: scapy's opinion."""
    packet = Ether(frame)
    packet.dst, packet.src = NEIGHBOUR, DEVICE
    ip = packet[IP]
    ip.ttl -= 1
    del ip.chksum
    if source is not None:
        ip.src = source
        packet[UDP].sport = port
        del packet[UDP].chksum
    return bytes(packet)


def _open(handler: Handler) -> None:
    """Have a socket read. Who gets no memory for that tries once more."""
    if isinstance(handler, LocalSocket):
        try:
            handler.open()
        except MemoryError:
            handler.open()


class StackBench(Bench):
    """One stack, route table and handler for each core.

    Parameters
    ----------
    handler : ``handler(bench, core) -> Handler``, of the core of that index; its routes are ``bench.routes[core]``.
        None: the core's stack drops what it gets
    limit : SKBs that may wait in each core's qdisc
    """

    def __init__(
        self,
        strategy: str,
        handler: Callable[["StackBench", int], Handler | None],
        *,
        verdict: str = "pass",
        mtu: int = 9198,
        limit: int = TX_QUEUE_LENGTH,
        **options: Any,
    ) -> None:
        self.stacks: list[NetStack] = []
        super().__init__(strategy, verdict, consumer=self._take, **options)
        self.mtu, self.limit = mtu, limit
        self.routes = [RouteTable() for _ in self.host.cores]
        self.qdiscs: list[Qdisc] = []
        ups = [handler(self, core) for core in range(len(self.host.cores))]
        self.stacks += [NetStack(net, up) for net, up in zip(self.host.softnets, ups, strict=True)]
        self.handlers = [up for up in ups if up is not None]

    def start(self) -> None:
        """Probe, open, route 10/8 by the first queue of each core, and let sockets be read."""
        super().start()
        for core, routes in enumerate(self.routes):
            queue = self.driver.queues[core]
            qdisc = Qdisc(self.host.softnets[core], queue.skbs, self.limit)
            queue.tx.wake = qdisc.wake
            self.qdiscs.append(qdisc)
            routes.add("10.0.0.0/8", Route(qdisc, mac(NEIGHBOUR), mac(DEVICE), self.mtu))
        self._on_each(_open, "open")

    def send(self, queue: int, frames: Sequence[bytes], pause: int = 5 * 10**6) -> None:
        """In a process: let frames arrive, one after the other."""
        for frame in frames:
            self.nic.receive(queue, [frame])
            self.core.sleep_until(self.core.time + pause)

    def close(self) -> None:
        """In a process: end what consumers keep, then :meth:`finish`."""
        self._on_each(lambda handler: handler.close(), "close")
        self.finish()

    def nothing_left(self) -> None:
        """No leak either."""
        super().nothing_left()
        assert not self.host.leaks()

    def sent(self) -> list[bytes]:
        """Frames that the device sent, of all queues."""
        return [frame for queue in self.nic.queues for frame in queue.sent]

    def _on_each(self, function: Callable[[Handler], None], what: str) -> None:
        """Do something with each handler, in a process of its core."""
        stacks = [(stack.core, stack.handler) for stack in self.stacks]
        tasks = [core.spawn(what, partial(function, up)) for core, up in stacks if up is not None]
        self.wait(lambda: all(task.done for task in tasks), f"the handlers to {what}")

    def _take(self, queue: Any, fragments: Any, metadata: Any) -> None:
        self.stacks[queue.core.index](queue, fragments, metadata)
