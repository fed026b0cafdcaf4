# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of frames that an XDP program passes: who takes them, and what must leave again."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from driver_model.cpu.core import Core
from driver_model.drivers.host import Host
from driver_model.drivers.nic import NicDriver
from driver_model.net.collector import Collector
from driver_model.net.filter import FilterDrop
from driver_model.net.forward import IpForward, Route, RouteTable
from driver_model.net.ip import ETH_HLEN, ETH_P_IP, PROTOCOL_TCP, PROTOCOL_UDP
from driver_model.net.local_socket import LocalSocket
from driver_model.net.nat import SourceNat
from driver_model.net.pin_socket import PinSocket
from driver_model.net.qdisc import Qdisc
from driver_model.net.stack import Handler, NetStack
from sim.frame_consumer import Done, FrameConsumer
from sim.traffic.flows import SOURCE_MAC, queue_mac

MICROSECOND = 10**6  #: in picoseconds
CORE_STEP = 2 * MICROSECOND  #: between two looks whether another core is done
CORE_TIMEOUT = 100_000 * MICROSECOND  #: for it to be
NAT_ADDRESS = 0xC0A80001  #: 192.168.0.1, the source of what NAT sends
ATTACKER = 0x0A010000  #: 10.1.0.0, the source of flow 0
HOP_MAC = bytes.fromhex(SOURCE_MAC.replace(":", ""))  #: of the next hop, from which the traffic comes
DEVICE_MAC = bytes.fromhex(queue_mac(0).replace(":", ""))
CHECKSUMS = {PROTOCOL_TCP: 16, PROTOCOL_UDP: 6}
_ALL = 0xFFFF


class Checked(FrameConsumer):
    """Compares each frame with what was sent, and releases it."""

    name = "collector"

    def __init__(self, host: Host, done: Done, collector: Collector) -> None:
        super().__init__(host, done)
        self.collector = collector

    def take(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """Check one frame."""
        self.collector(queue, fragments, metadata)

    def open(self, driver: NicDriver) -> None:
        """Nothing to begin."""

    def close(self) -> None:
        """Nothing is kept."""


class Stacked(FrameConsumer):
    """SKBs, and an IPv4 handler behind a stack on each core."""

    def __init__(self, host: Host, done: Done) -> None:
        super().__init__(host, done)
        self.handlers: list[Any] = [self.handler(core) for core in range(len(host.cores))]
        self.stacks = [NetStack(softnet, each) for softnet, each in zip(host.softnets, self.handlers, strict=True)]

    @abstractmethod
    def handler(self, core: int) -> Handler | None:
        """What a core does with packets, None: nothing is registered for them."""

    def take(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """Up the stack of the queue's core."""
        self.stacks[queue.core.index](queue, fragments, metadata)

    def open(self, driver: NicDriver) -> None:
        """Nothing to begin."""

    def close(self) -> None:
        """Free what the handlers keep, each on its core."""
        for core, each in zip(self.host.cores, self.handlers, strict=True):
            if each is not None:
                on_core(self.host, core, each.close)

    @property
    def dropped(self) -> Counter[str]:
        """Frames that reached no handler."""
        dropped: Counter[str] = Counter()
        for stack in self.stacks:
            counts = stack.statistics
            dropped["no_skb"] += counts.no_memory
            dropped["no_handler"] += counts.no_handler
            dropped["header_error"] += counts.header_errors
        return dropped

    @property
    def statistics(self) -> dict[str, int]:
        """Of SKBs, stacks and handlers, summed over the cores."""
        total: Counter[str] = Counter()
        for stack, handler in zip(self.stacks, self.handlers, strict=True):
            total.update(stack.skbs.statistics.as_dict())
            total.update(stack.statistics.as_dict())
            counts = getattr(handler, "statistics", None)
            if counts is not None:
                total.update(counts.as_dict())
        return dict(total)


class Unclaimed(Stacked):
    """No protocol is registered: every packet ends in ``__netif_receive_skb_core``, as raw frames of nobody's type
    do."""

    name = "no_protocol"
    tells = True

    def handler(self, core: int) -> None:
        """None."""

    def take(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """Up the stack, to where protocols begin."""
        length = _length(fragments, metadata)
        counts = self.stacks[queue.core.index].statistics
        before = counts.no_handler
        super().take(queue, fragments, metadata)
        if counts.no_handler > before:
            self.done(queue.core.time, length)

    @property
    def dropped(self) -> Counter[str]:
        """Those that came to their end before."""
        dropped = super().dropped
        del dropped["no_handler"]
        return dropped


class Filtered(Stacked):
    """The stack's filter drops every packet."""

    name = "filter"
    tells = True

    def handler(self, core: int) -> Handler:
        """A filter."""
        return FilterDrop()

    def take(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """Up the stack, to its end."""
        length = _length(fragments, metadata)
        handler = self.handlers[queue.core.index]
        before = handler.dropped
        super().take(queue, fragments, metadata)
        if handler.dropped > before:
            self.done(queue.core.time, length)


class Forwarded(Stacked):
    """The stack forwards every packet by the device that it came by."""

    name = "forward"
    sends = True

    def __init__(self, host: Host, done: Done) -> None:
        super().__init__(host, done)
        self.qdiscs: list[Qdisc] = []

    def handler(self, core: int) -> Handler:
        """Forwarding with a table of its own, whose routes lead to the core's queue pair."""
        return IpForward(RouteTable())

    def open(self, driver: NicDriver) -> None:
        """A qdisc before each queue pair, and a default route."""
        for queue in driver.queues:
            qdisc = Qdisc(self.host.softnets[queue.core.index], queue.skbs)
            queue.tx.wake = qdisc.wake
            self.qdiscs.append(qdisc)
            self.handlers[queue.core.index].routes.add("0.0.0.0/0", Route(qdisc, HOP_MAC, DEVICE_MAC, mtu=9000))

    def expected(self, frame: bytes) -> bytes | None:
        """One hop less, new Ethernet addresses; None for what is no IPv4 packet, or at its last hop."""
        if len(frame) < ETH_HLEN + 20 or frame[12:14] != ETH_P_IP.to_bytes(2) or frame[14] >> 4 != 4:
            return None
        length = (frame[14] & 15) * 4
        total = int.from_bytes(frame[16:18])
        if (
            length < 20
            or not length <= total <= len(frame) - ETH_HLEN
            or _sum(frame[14 : 14 + length])
            or frame[22] < 2
        ):
            return None
        packet = bytearray(frame[ETH_HLEN : ETH_HLEN + total])
        packet[8] -= 1
        self.translate(packet, length)
        packet[10:12] = bytes(2)
        packet[10:12] = _sum(bytes(packet[:length])).to_bytes(2)
        sent = HOP_MAC + DEVICE_MAC + frame[12:14] + bytes(packet)
        return sent + bytes(max(0, 60 - len(sent)))

    def translate(self, packet: bytearray, length: int) -> None:
        """Change what else is to change of a packet whose header has so many bytes."""

    @property
    def busy(self) -> int:
        """Packets in the qdiscs."""
        return sum(qdisc.backlog for qdisc in self.qdiscs)

    @property
    def dropped(self) -> Counter[str]:
        """Those that reached no handler, and those that could not be sent."""
        dropped = super().dropped
        for each in self.handlers:
            counts = each.statistics
            dropped["no_route"] += counts.no_route
            dropped["ttl"] += counts.ttl_exceeded
            dropped["too_big"] += counts.too_big
            dropped["no_memory"] += counts.no_memory
        dropped["qdisc"] += sum(qdisc.statistics.drops for qdisc in self.qdiscs)
        return dropped

    @property
    def statistics(self) -> dict[str, int]:
        """With the qdiscs'."""
        requeues = sum(qdisc.statistics.requeues for qdisc in self.qdiscs)
        return super().statistics | {"qdisc_requeues": requeues}


class Translated(Forwarded):
    """The same behind source NAT."""

    name = "nat"

    def handler(self, core: int) -> Handler:
        """NAT with a table of its own."""
        return SourceNat(RouteTable(), NAT_ADDRESS)

    def translate(self, packet: bytearray, length: int) -> None:
        """Another source address; the port stays, as flows have one each. Checksums are summed anew."""
        protocol = packet[9]
        if protocol not in CHECKSUMS or int.from_bytes(packet[6:8]) & 0x3FFF:
            return
        packet[12:16] = NAT_ADDRESS.to_bytes(4)
        at = length + CHECKSUMS[protocol]
        if protocol == PROTOCOL_UDP and packet[at : at + 2] == bytes(2):
            return
        packet[at : at + 2] = bytes(2)
        pseudo = bytes(packet[12:20]) + bytes([0, protocol]) + (len(packet) - length).to_bytes(2)
        check = _sum(pseudo + bytes(packet[length:]))
        packet[at : at + 2] = (check or (_ALL if protocol == PROTOCOL_UDP else 0)).to_bytes(2)


class Held(Stacked):
    """A socket on each core holds every packet for a time, until its reader takes it."""

    name = "socket"
    tells = True

    def __init__(self, host: Host, done: Done, *, hold_us: int, rcvbuf: int, stream: bool) -> None:
        self._hold = hold_us * MICROSECOND
        self._rcvbuf = rcvbuf
        self._stream = stream
        super().__init__(host, done)

    def handler(self, core: int) -> Handler:
        """A socket."""
        return LocalSocket(
            self.host.pages[core],
            hold=self._hold,
            rcvbuf=self._rcvbuf,
            stream=self._stream,
            deliver=lambda data: self.done(self.host.cores[core].time, ETH_HLEN + len(data)),
        )

    def open(self, driver: NicDriver) -> None:
        """Start the readers, each on its core."""
        for core, each in zip(self.host.cores, self.handlers, strict=True):
            on_core(self.host, core, each.open)

    @property
    def busy(self) -> int:
        """Packets that wait for the reader."""
        return sum(each.waiting for each in self.handlers)

    @property
    def dropped(self) -> Counter[str]:
        """Those that reached no handler, those that the receive buffer had no room for, and those that joined another
        packet, which is delivered for them."""
        dropped = super().dropped
        for each in self.handlers:
            dropped["rcvbuf"] += each.statistics.dropped
            dropped["coalesced"] += each.statistics.coalesced
        return dropped


class Pinned(Stacked):
    """A socket on each core keeps the packets of flow 0, and frees those of others at once."""

    name = "pin"
    tells = True

    def __init__(self, host: Host, done: Done, *, rcvbuf: int) -> None:
        self._rcvbuf = rcvbuf
        super().__init__(host, done)

    def handler(self, core: int) -> Handler:
        """A socket."""
        return PinSocket(self.host.cores[core], ATTACKER, self._rcvbuf)

    def take(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """Up the stack, to the socket."""
        length = _length(fragments, metadata)
        counts = self.handlers[queue.core.index].statistics
        before = counts.held + counts.others
        super().take(queue, fragments, metadata)
        if counts.held + counts.others > before:
            self.done(queue.core.time, length)

    @property
    def dropped(self) -> Counter[str]:
        """Those that reached no handler, and those of the attacker that the receive buffer had no room for."""
        dropped = super().dropped
        dropped["rcvbuf"] += sum(each.statistics.dropped for each in self.handlers)
        return dropped


CONSUMERS = ("collector", "no_protocol", "filter", "forward", "nat", "socket", "pin")


def consumer(name: str, host: Host, done: Done, collector: Collector, **socket: Any) -> FrameConsumer:
    """The consumer of a run. ``collector`` is for the one of that name, ``socket`` is what :class:`Held` takes."""
    if name == Pinned.name:
        return Pinned(host, done, rcvbuf=socket["rcvbuf"])
    if name == Checked.name:
        return Checked(host, done, collector)
    if name == Held.name:
        return Held(host, done, **socket)
    return {each.name: each for each in (Unclaimed, Filtered, Forwarded, Translated)}[name](host, done)


def _length(fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> int:
    """Bytes of a frame."""
    return (0 if metadata.header is None else int(metadata.header[1])) + sum(size for _, _, size in fragments)


def on_core(host: Host, core: Core, function: Callable[[], None]) -> None:
    """Run a function in a process of a core, and wait for it in a process of the first one."""
    first = host.cores[0]
    if core is first:
        function()
        return
    first.sync()
    task = core.spawn("consumer", function)
    deadline = first.time + CORE_TIMEOUT
    while not task.done:
        if first.time >= deadline:
            raise TimeoutError(f"Waited {CORE_TIMEOUT // MICROSECOND} us for a consumer's process on core {core.index}")
        first.sleep_until(first.time + CORE_STEP)


def _sum(data: bytes) -> int:
    """The Internet checksum of some bytes, by their value as one number: independent of the stack's own."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data) % _ALL
    return ~(total or (_ALL if any(data) else 0)) & _ALL
