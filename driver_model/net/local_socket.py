# SPDX-License-Identifier: BSD-2-Clause
"""A local socket that holds packets for a time: what a slow reader does to a driver's buffers (``net/core/sock.c``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from driver_model.cpu.locks import SpinLock
from driver_model.cpu.scheduler import Task, WaitQueue
from driver_model.net.ip import Ipv4
from driver_model.net.skb.edit import skb_try_coalesce
from driver_model.net.skb.sk_buff import SkBuff, skb_load

if TYPE_CHECKING:
    from driver_model.memory.pages.allocator import PageAllocator
    from driver_model.memory.pages.page import Page
    from driver_model.net.stack import NetStack

RMEM_DEFAULT = 212_992  #: ``net.core.rmem_default``
READ_BYTES = 65536  #: of a reader's buffer


@dataclass(slots=True)
class SocketStatistics:
    """What came to a socket and what became of it."""

    queued: int = 0  #: packets
    coalesced: int = 0  #: of those, added to the one before
    dropped: int = 0  #: ``sk_drops``: the receive buffer was full
    read_packets: int = 0  #: SKBs that the reader took
    read_bytes: int = 0
    peak_truesize: int = 0  #: most memory that was charged at once

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {f"socket_{name}": value for name, value in asdict(self).items()}


class LocalSocket:
    """Queues packets for a process, which reads each when it has lain there for ``hold`` picoseconds: copies its bytes
    into a buffer of its own, and frees it. It reads no more than one packet in ``pace`` picoseconds, as one does that
    waits for something else between them.

    Packets are charged to the socket by their truesize while they wait; once that has reached ``rcvbuf``, more are
    dropped (``__sock_queue_rcv_skb``: one packet may pass it). With ``stream``, bytes are added to the packet before,
    as TCP does, where that can be. Charged are ``sock.demux`` and ``sock.enqueue`` for each packet, ``syscall`` and
    ``sock.recv`` for each that is read, the copy, and the socket's lock: once for a packet that comes, twice for one
    that is read (``lock_sock`` and ``release_sock``).

    Parameters
    ----------
    pages : of the socket's core, on which it is opened and closed, too; for the reader's buffer
    hold : picoseconds; 0: read as soon as the process runs
    rcvbuf : bytes of truesize
    stream : packets are coalesced
    deliver : told the bytes of each SKB that is read, from the IPv4 header on

    Attributes
    ----------
    pace : may be changed at any time; 0: the reader waits for packets alone
    """

    def __init__(
        self,
        pages: PageAllocator,
        *,
        hold: int = 0,
        rcvbuf: int = RMEM_DEFAULT,
        stream: bool = False,
        deliver: Callable[[bytes], None] | None = None,
    ) -> None:
        for name, value, low in (("hold", hold, 0), ("rcvbuf", rcvbuf, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name} must be an integer, {low} or more, not {value!r}")
        self.core = pages.core
        self.hold = hold
        self.rcvbuf = rcvbuf
        self.stream = stream
        self.deliver = deliver
        self.pace = 0
        self.rmem_alloc = 0  #: truesize that is charged
        self.statistics = SocketStatistics()
        self._paced = 0  # when it should have read last, with a pace
        self._pages = pages
        self._queue: deque[tuple[int, SkBuff]] = deque()
        self._arrived = WaitQueue()
        self._stack: NetStack | None = None
        self._reader: Task | None = None
        self._buffer: Page | None = None
        self._lock = SpinLock("socket")
        self._closing = False
        self._closed = WaitQueue()
        self._due = WaitQueue()
        core = self.core
        self._op_demux = core.op("sock.demux")
        self._op_enqueue = core.op("sock.enqueue")
        self._op_recv = core.op("sock.recv")
        self._op_syscall = core.op("syscall")

    def attach(self, stack: NetStack) -> None:
        """The stack that packets come from. Raises ``ValueError`` for one of another core."""
        if stack.core is not self.core:
            raise ValueError(f"A socket of core {self.core.index} cannot serve the stack of core {stack.core.index}")
        self._stack = stack

    @property
    def waiting(self) -> int:
        """Packets that were not read."""
        return len(self._queue)

    def open(self) -> None:
        """Start the reader. Raises ``MemoryError`` without memory for its buffer."""
        order = max(0, (READ_BYTES // self._pages.page_size).bit_length() - 1)
        self._buffer = self._pages.alloc_pages(order)
        if self._buffer is None:
            raise MemoryError(f"No memory for a reader's buffer of {READ_BYTES} bytes")
        self._reader = self.core.spawn("reader", self._read)

    def handle(self, stack: NetStack, skb: SkBuff, header: Ipv4) -> None:
        """A packet arrives, in softirq."""
        self.core.spend(self._op_demux)
        with self._lock.held(self.core):
            self._queue_rcv_skb(stack, skb)

    def uncharge(self, skb: SkBuff) -> None:
        """``sock_rfree``: a packet that was charged is freed."""
        self.rmem_alloc -= skb.truesize

    def close(self) -> None:
        """In a process: let the reader end; what it did not read is freed."""
        self._closing = True
        if self._reader is None:
            self._purge()
        else:
            self._arrived.wake_up(self.core)
            self._due.wake_up(self.core)
            self._closed.wait(self.core, lambda: self._buffer is None)
            self._reader = None

    def _queue_rcv_skb(self, stack: NetStack, skb: SkBuff) -> None:
        """``__sock_queue_rcv_skb``."""
        core = self.core
        if self._closing or self.rmem_alloc >= self.rcvbuf:
            self.statistics.dropped += 1
            stack.freeing.consume_skb(skb)
            return
        core.spend(self._op_enqueue)
        self.statistics.queued += 1
        if self.stream and self._queue:
            added = skb_try_coalesce(stack.skbs, stack.freeing, self._queue[-1][1], skb)
            if added is not None:
                self.statistics.coalesced += 1
                self._charge(added)
                return
        skb.sk = self
        skb.holder = "socket"
        self._charge(skb.truesize)
        self._queue.append((core.time, skb))
        self._arrived.wake_up(core)

    def _charge(self, truesize: int) -> None:
        self.rmem_alloc += truesize
        self.statistics.peak_truesize = max(self.statistics.peak_truesize, self.rmem_alloc)

    # The reader

    def _read(self) -> None:
        core = self.core
        while not self._closing:
            self._arrived.wait(core, lambda: self._queue or self._closing)
            if self._closing:
                break
            self._sleep_until(self._queue[0][0] + self.hold)
            while self._queue and self._queue[0][0] + self.hold <= core.time and not self._closing:
                begin = core.time
                self._recv()
                if self.pace:
                    late = begin - self._paced
                    self._paced = (self._paced if late < self.pace else begin) + self.pace
                    self._sleep_until(self._paced)
                core.cond_resched()
        assert self._buffer is not None
        self._purge()
        self._pages.put_page(self._buffer)
        self._buffer = None
        self._closed.wake_up(core)

    def _sleep_until(self, time: int) -> None:
        """Until a time, or the socket closes."""
        core = self.core
        core.sync()
        if time <= core.time:
            return
        timer = core.platform.at(time, lambda: core.interrupt(lambda: self._due.wake_up(core)))
        self._due.wait(core, lambda: core.time >= time or self._closing)
        timer.cancel()

    def _recv(self) -> None:
        """``recvmsg`` of one packet."""
        core = self.core
        assert self._buffer is not None
        core.spend(self._op_syscall)
        core.softirq.disable()  # as lock_sock does: the queue is changed by softirqs, too
        with self._lock.held(core):
            skb = self._queue.popleft()[1]
        core.softirq.enable()
        core.spend(self._op_recv)
        data = skb_load(core, skb, 0, skb.len)
        for at in range(0, len(data), self._buffer.size):
            core.store_owned(self._buffer.address, data[at : at + self._buffer.size])
        self.statistics.read_packets += 1
        self.statistics.read_bytes += len(data)
        if self.deliver is not None:
            self.deliver(data)
        self._consume(skb)

    def _purge(self) -> None:
        """``skb_queue_purge``."""
        while self._queue:
            self._consume(self._queue.popleft()[1])

    def _consume(self, skb: SkBuff) -> None:
        assert self._stack is not None
        core = self.core
        core.softirq.disable()
        with self._lock.held(core):
            self._stack.freeing.consume_skb(skb)
        core.softirq.enable()
