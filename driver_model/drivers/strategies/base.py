# SPDX-License-Identifier: BSD-2-Clause
"""What the driver asks of a buffer strategy."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from driver_model.drivers.hardware_pool import HardwarePool
from driver_model.memory.dma.api import Device
from driver_model.memory.page_pool.frag import FRAGMENT_ALIGN
from driver_model.net.napi import Napi
from driver_model.net.skb.memory import ReceivedBuffer
from driver_model.net.skb.sk_buff import SIZEOF_SHARED_INFO
from driver_model.net.xdp import XDP_PACKET_HEADROOM

SKB_TAILROOM = SIZEOF_SHARED_INFO  #: behind what the device may fill: an SKB may be built around the buffer
SMALLEST_FRAGMENT = 1024  #: of a page: headroom, tailroom, and as much for the frame


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What a strategy with a page_pool asks of it beside what it needs.

    Attributes
    ----------
    inflight_limit : pages that it may have, the circuit breaker; of a pool in the device, buffers that it may have
        given out, the feedback loop; 0: without bound
    inflight_resume : pages in use, or buffers out, at which it gives again; None: three quarters of the limit
    shrinker : it gives pages back under memory pressure
    put_page_recycles : a page returns by ``put_page``, whose flag names the pool
    skb_recycles : a page returns when its SKB ends (Linux 5.14); otherwise it leaves the pool when an SKB gets it
    bulk_refill : new pages come in bulk (Linux 5.13)
    sync_received : a page that returns is synced for the device as far as it was filled, as XDP drivers do (mvneta's
        ``sync_len``), not all of it, as Linux does for SKBs: here theirs, too, whose users then must write nothing
        behind the packet (the checker of ownership watches)
    sync_device : a page that is given to the device is synced for it (``PP_FLAG_DMA_SYNC_DEV``); without, what the CPU
        left in its caches may come over what the device writes, on a machine that is not coherent
    from_device : its pages are mapped for receiving alone, as drivers do while no XDP program is attached: then no
        frame can leave from where it arrived
    fragment_bytes : its pages are cut into buffers of so many bytes, a multiple of 64; 0: a page is a buffer
    """

    inflight_limit: int = 0
    inflight_resume: int | None = None
    shrinker: bool = False
    put_page_recycles: bool = False
    skb_recycles: bool = True
    bulk_refill: bool = True
    sync_received: bool = False
    sync_device: bool = True
    from_device: bool = False
    fragment_bytes: int = 0

    def __post_init__(self) -> None:
        least = SMALLEST_FRAGMENT
        if self.fragment_bytes and (self.fragment_bytes < least or self.fragment_bytes % FRAGMENT_ALIGN):
            raise ValueError(
                f"fragment_bytes must be 0, or a multiple of {FRAGMENT_ALIGN}, {least} or more, not "
                f"{self.fragment_bytes!r}"
            )


NO_OPTIONS = PoolOptions()


class BufferStrategy(ABC):
    """Receive buffers of one queue.

    A buffer is an object of the strategy's choice with an ``address``: the physical address of its first byte,
    ``headroom`` bytes before the posted ones. How the device comes by it is a matter of :class:`PostedStrategy` and
    :class:`PooledStrategy`. Filled by the device, it goes through :meth:`received`, and then one of

    - :meth:`release` (dropped, or the consumer is done with it),
    - :meth:`transmit`, read by the device, :meth:`transmitted`.

    All calls are made by the queue's core.

    Parameters
    ----------
    dev : the device as the queue's core uses it
    ring_entries : buffers that the ring can hold
    napi : the queue's NAPI instance
    pool : what is asked of a page_pool, where there is one
    """

    name: ClassVar[str]  #: as users give it
    writable: ClassVar[bool] = True  #: the CPU may write to a received buffer, all of it, so an SKB can be built there
    poll_mode: ClassVar[bool] = False  #: its queues are polled by a process, and never interrupt
    recycles: ClassVar[bool] = False  #: a received buffer goes back to a page_pool (``skb->pp_recycle``)
    headroom: ClassVar[int] = XDP_PACKET_HEADROOM  #: bytes before the frame; a multiple of 64, so that data is aligned

    def __init__(self, dev: Device, ring_entries: int, napi: Napi, pool: PoolOptions = NO_OPTIONS) -> None:
        self.dev = dev
        self.napi = napi
        self.buffer_length = self.buffer_length_of(dev.pages.page_size, pool)  #: bytes posted to the device

    @classmethod
    def buffer_length_of(cls, page_size: int, pool: PoolOptions = NO_OPTIONS) -> int:
        """Bytes of a buffer that the device may fill, where the kernel's pages have that size; 65535 at most."""
        return page_size - cls.headroom - SKB_TAILROOM

    @property
    def buffer_size(self) -> int:
        """Bytes of a buffer, from its ``address`` on: headroom, what the device may fill, room for shared info."""
        return self.headroom + self.buffer_length + SKB_TAILROOM

    def memory(self, owner: Any, buffer: Any) -> ReceivedBuffer:
        """A received buffer as memory of an SKB; ``owner`` is the queue pair."""
        return ReceivedBuffer(owner, buffer, self.buffer_size, writable=self.writable, recycles=self.recycles)

    @abstractmethod
    def received(self, buffer: Any, length: int) -> Any:
        """The device filled ``length`` bytes: make them the CPU's. Returns the buffer to hand up: this one, or another
        with the same bytes at the same place (None: there was no memory for it; this one is taken care of)."""

    @abstractmethod
    def release(self, buffer: Any) -> None:
        """Give back a received buffer."""

    def release_bulk(self, buffers: Sequence[Any]) -> None:
        """Give back several."""
        for buffer in buffers:
            self.release(buffer)

    @abstractmethod
    def transmit(self, buffer: Any, length: int) -> int | None:
        """Hand ``length`` bytes of a received buffer to the device for sending; its address there, or None if it cannot
        be mapped (the buffer is then still the caller's)."""

    @abstractmethod
    def transmitted(self, buffer: Any, length: int) -> None:
        """The device has read (or refused) the ``length`` bytes of :meth:`transmit`: give the buffer back."""

    @abstractmethod
    def close(self) -> None:
        """The queue has stopped and no buffer will be asked for any more."""

    def statistics(self) -> dict[str, int]:
        """Counters of its own, under ethtool names."""
        return {}

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Pages that the strategy holds or lent out; 0 after :meth:`close` once all came back."""

    @property
    def inflight_mem(self) -> int:
        """Bytes of those (netlink's ``inflight-mem``)."""
        return self.in_flight * self.dev.pages.page_size


class PostedStrategy(BufferStrategy):
    """The driver posts each buffer on the fill ring: :meth:`allocate`, and :meth:`withdraw` if it was never filled."""

    @abstractmethod
    def allocate(self) -> tuple[int, Any] | None:
        """A buffer that is the device's: device address to post, and the buffer. None when there is no memory."""

    @abstractmethod
    def withdraw(self, buffer: Any) -> None:
        """Give back a buffer that was posted and never filled; the device has stopped."""


class PooledStrategy(BufferStrategy):
    """The device has the buffers in a pool of its own and helps itself; a completion names one by its id there.

    :meth:`attach` comes before the queue is enabled, :meth:`detach` when it has stopped, or else :meth:`forget` before
    the device is reset; then :meth:`close`. In between, a buffer is software's from :meth:`take` until
    :meth:`release`, :meth:`transmitted`, or :meth:`recycle`.
    """

    warnings: list[str]  #: what went wrong with the pool, in words

    @abstractmethod
    def attach(self, pool: HardwarePool, buffers: int, most: int, vector: int) -> None:
        """Put so many buffers into the pool, and more, to have ``most`` in all, as it runs low, which an interrupt of
        ``vector`` tells. Raises ``MemoryError`` where there is no memory for the first."""

    @abstractmethod
    def low_water(self) -> None:
        """That interrupt has come, perhaps late."""

    @abstractmethod
    def take(self, buffer_id: int) -> Any:
        """The buffer that a completion names, or None if the device does not have one of that id."""

    @abstractmethod
    def flush(self) -> None:
        """A poll ends: give the device what was released."""

    @abstractmethod
    def recycle(self, buffer: Any, *, own: bool) -> tuple[int, int] | None:
        """A buffer behind :meth:`transmit` goes back to the pool by itself when it was sent, without
        :meth:`transmitted`: the buffer's id and the bits of the control word for its descriptor. None: it does not.
        ``own``: nobody but the driver has had it since it was received."""

    @abstractmethod
    def detach(self) -> None:
        """The queue has stopped: take all buffers out of the pool, and disable it."""

    @abstractmethod
    def forget(self) -> None:
        """The device is about to be reset: the pool is not to be touched any more."""
