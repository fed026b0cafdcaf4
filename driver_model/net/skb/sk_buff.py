# SPDX-License-Identifier: BSD-2-Clause
"""``struct sk_buff``: a packet on its way through the stack (``include/linux/skbuff.h``).

Positions are physical addresses. Bytes are reached through a core, as all memory is; of a packet that the device wrote,
the first touch of each line pays what ``core.device_line`` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from driver_model.memory.site import caller, told
from driver_model.net.skb.memory import PacketMemory

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.memory.slab.allocator import SlabObject

LINE = 64  #: ``SMP_CACHE_BYTES``
MAX_SKB_FRAGS = 17
NET_SKB_PAD = 64  #: bytes kept free before the data of an SKB with a head of its own


def skb_data_align(size: int) -> int:
    """``SKB_DATA_ALIGN``."""
    return -(-size // LINE) * LINE


SIZEOF_SK_BUFF = skb_data_align(232)  #: as a slab object, and as it counts in truesize
SIZEOF_SHARED_INFO = skb_data_align(320)  #: of ``struct skb_shared_info``
SK_BUFF_LINES = SIZEOF_SK_BUFF // LINE


def skb_truesize(size: int) -> int:
    """``SKB_TRUESIZE``: what an SKB with so many bytes of data takes in memory."""
    return size + SIZEOF_SK_BUFF + SIZEOF_SHARED_INFO


class SkbError(RuntimeError):
    """What the kernel would have panicked over, or never noticed."""


class SkbFrag(NamedTuple):
    """``skb_frag_t``: bytes of a packet that lie in memory of their own."""

    memory: PacketMemory
    address: int
    length: int


class SkbSharedInfo:
    """``struct skb_shared_info``: what an SKB and its clones share. It lies behind the head's bytes."""

    __slots__ = ("dataref", "frags")

    def __init__(self) -> None:
        self.dataref = 1
        self.frags: list[SkbFrag] = []


class SkBuff:
    """A packet: bytes from ``data`` to ``tail`` in its head, and then those of the fragments.

    Attributes
    ----------
    struct : where the sk_buff itself lies: an object of the slab, or None inside of the buffer that the packet came in
    head : memory of the linear part
    start, end : addresses between which it may lie; behind them, the shared info
    data, tail : addresses of the linear part
    container : the buffer that the sk_buff lies in, once that is not its head any more
    len, data_len : all bytes, and those in fragments
    truesize : bytes of memory that the packet keeps from others, as the kernel counts them
    pp_recycle : its memory goes back to a page_pool
    cloned : shares its head with another
    users : references to the sk_buff itself
    uncleared : cache lines of the sk_buff that were not set to zero yet
    touched : bytes of the linear part up to here have been looked at by the CPU
    network_header : where IP begins
    sk : the socket that it is charged to, or None
    holder : who has it now, in words, for those who look for a leak
    freed : where and when it was freed, in words as far as a checker looks; None while it is in use
    """

    __slots__ = (
        "cloned",
        "container",
        "data",
        "data_len",
        "end",
        "freed",
        "head",
        "holder",
        "len",
        "network_header",
        "pp_recycle",
        "shinfo",
        "sk",
        "start",
        "struct",
        "tail",
        "touched",
        "truesize",
        "uncleared",
        "users",
    )

    def __init__(self, struct: SlabObject | None, head: PacketMemory, start: int, end: int, truesize: int) -> None:
        self.struct = struct
        self.head = head
        self.start = self.data = self.tail = self.touched = self.network_header = start
        self.end = end
        self.len = self.data_len = 0
        self.truesize = truesize
        self.container: PacketMemory | None = None
        self.pp_recycle = False
        self.cloned = False
        self.users = 1
        self.uncleared = 0
        self.shinfo = SkbSharedInfo()
        self.sk: Any = None
        self.holder = ""
        self.freed: object = None

    @property
    def headlen(self) -> int:
        """``skb_headlen``: bytes of the linear part."""
        return self.len - self.data_len

    @property
    def headroom(self) -> int:
        """``skb_headroom``: bytes free before the data."""
        return self.data - self.start

    @property
    def tailroom(self) -> int:
        """``skb_tailroom``: bytes free behind the data; none where fragments follow."""
        return 0 if self.data_len else self.end - self.tail

    @property
    def shared(self) -> bool:
        """``skb_cloned``: another SKB has the same head and fragments now."""
        return self.cloned and self.shinfo.dataref > 1

    @property
    def writable(self) -> bool:
        """The linear part's bytes are this SKB's alone, and the CPU's."""
        return self.head.writable and not self.shared

    @property
    def memory(self) -> list[PacketMemory]:
        """All that it keeps from being given back, each piece once."""
        frags = self.shinfo.frags
        if not frags and self.container is None:
            return [self.head]
        pieces = [self.head, *(frag.memory for frag in frags)]
        if self.container is not None:
            pieces.append(self.container)
        return list(dict.fromkeys(pieces))

    def __repr__(self) -> str:
        held = f", held by {self.holder}" if self.holder and not self.freed else ""
        return f"sk_buff of {self.len} bytes at {self.data:#x} (truesize {self.truesize}{held})"


def use_after_free(skb: SkBuff, what: str) -> SkbError:
    """The error of one who does something with an SKB that was freed."""
    return SkbError(f"Use after free: {what} at {told(caller())} of {skb!r}, {skb.freed}")


def skb_reserve(skb: SkBuff, length: int) -> None:
    """Move the data of an empty SKB. Raises :class:`SkbError` for one that has bytes, or past its end."""
    if skb.len or not 0 <= length <= skb.end - skb.tail:
        raise SkbError(f"skb_reserve of {length!r} bytes of {skb!r}, which ends at {skb.end:#x}")
    skb.data += length
    skb.tail = skb.touched = skb.network_header = skb.data


def skb_put(skb: SkBuff, length: int) -> int:
    """Add bytes at the end of the linear part; where they are to go. Raises :class:`SkbError` where there is no
    room."""
    tail = skb.tail
    if length < 0 or tail + length > skb.end:
        raise SkbError(f"skb_over_panic: {length!r} bytes do not fit behind {skb!r}, which ends at {skb.end:#x}")
    if skb.data_len or skb.freed:
        raise use_after_free(skb, "skb_put") if skb.freed else SkbError(f"skb_put of {skb!r}, which is not linear")
    skb.tail = tail + length
    skb.len += length
    return tail


def skb_push(skb: SkBuff, length: int) -> int:
    """Add bytes before the data; where they are to go. Raises :class:`SkbError` where there is no room."""
    if length < 0 or skb.data - length < skb.start:
        raise SkbError(f"skb_under_panic: {length!r} bytes do not fit before {skb!r}, {skb.headroom} are free")
    if skb.freed:
        raise use_after_free(skb, "skb_push")
    skb.data -= length
    skb.len += length
    return skb.data


def skb_pull(skb: SkBuff, length: int) -> None:
    """Take bytes off the front of the linear part. Raises :class:`SkbError` for more than it has."""
    if not 0 <= length <= skb.headlen:
        raise SkbError(f"skb_pull of {length!r} bytes from {skb!r}, of which {skb.headlen} are linear")
    if skb.freed:
        raise use_after_free(skb, "skb_pull")
    skb.data += length
    skb.len -= length


def skb_touch(core: Core, skb: SkBuff, stop: int) -> None:
    """The CPU looks at the linear part up to an address: lines that it has not yet, the device wrote last."""
    if stop > skb.touched:
        lines = -(-stop // LINE) - -(-skb.touched // LINE)
        if lines:
            core.spend(core.device_line, lines)
        skb.touched = stop


def skb_load(core: Core, skb: SkBuff, offset: int, length: int) -> bytes:
    """``skb_copy_bits``: bytes of the packet, from ``data`` on, wherever they lie. Raises :class:`SkbError` beyond the
    end. Of fragments nothing is remembered: each look pays for lines that the device wrote."""
    if skb.freed:
        raise use_after_free(skb, "read")
    if offset < 0 or length < 0 or offset + length > skb.len:
        raise SkbError(f"{length!r} bytes at {offset!r} pass the end of {skb!r}")
    headlen = skb.headlen
    if offset + length <= headlen:
        skb_touch(core, skb, skb.data + offset + length)
        return core.load_owned(skb.data + offset, length)
    pieces = []
    if offset < headlen:
        pieces.append(skb_load(core, skb, offset, headlen - offset))
        length -= headlen - offset
        offset = headlen
    offset -= headlen
    for frag in skb.shinfo.frags:
        if not length:
            break
        if offset >= frag.length:
            offset -= frag.length
            continue
        count = min(length, frag.length - offset)
        start = frag.address + offset
        core.spend(core.device_line, -(-(start % LINE + count) // LINE))
        pieces.append(core.load_owned(start, count))
        length -= count
        offset = 0
    return b"".join(pieces)


def skb_store(core: Core, skb: SkBuff, offset: int, data: bytes) -> None:
    """``skb_store_bits`` in the linear part. Raises :class:`SkbError` beyond it, or where the bytes are not this SKB's
    to write: see :func:`driver_model.net.skb.edit.skb_ensure_writable`."""
    if skb.freed:
        raise use_after_free(skb, "write")
    if offset < 0 or offset + len(data) > skb.headlen:
        raise SkbError(f"{len(data)} bytes at {offset!r} pass the linear part of {skb!r}")
    if not skb.writable:
        why = "a clone shares its head" if skb.head.writable else "its page is read-only"
        raise SkbError(f"Write at {told(caller())} to {skb!r}, but {why}")
    skb_touch(core, skb, skb.data + offset + len(data))
    core.store_owned(skb.data + offset, data)
