# SPDX-License-Identifier: BSD-2-Clause
"""What the bytes of packets lie in, and how it is given back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from driver_model.memory.pages.page_frag import PageFrag
    from driver_model.memory.slab.allocator import SlabObject
    from driver_model.net.skb.alloc import SkbAllocator


class PacketMemory(ABC):
    """A piece of memory with users, the last of whom gives it back.

    A user beside the first costs an ``atomic`` when it comes and when it goes, as a page's reference does.

    Attributes
    ----------
    address, size : the piece
    writable : the CPU may write to it
    recycles : it goes back to a page_pool
    is_page : it is of a page, so that a fragment may name it (``skb->head_frag``)
    users : references
    """

    __slots__ = ("address", "recycles", "size", "users", "writable")
    is_page: ClassVar[bool] = True

    def __init__(self, address: int, size: int, *, writable: bool = True, recycles: bool = False) -> None:
        self.address = address
        self.size = size
        self.writable = writable
        self.recycles = recycles
        self.users = 1

    def get(self, skbs: SkbAllocator) -> None:
        """Another user comes, on the core of ``skbs``."""
        skbs.core.spend(skbs.op_atomic)
        self.users += 1

    def put(self, skbs: SkbAllocator) -> None:
        """A user goes. Raises ``RuntimeError`` for one more than came."""
        if self.users <= 0:
            raise RuntimeError(f"Packet memory at {self.address:#x} was given back more often than it was taken")
        self.users -= 1
        if self.users:
            skbs.core.spend(skbs.op_atomic)
            return
        if skbs.checker is not None:
            skbs.checker.detached(self)
        self.release(skbs)

    @abstractmethod
    def release(self, skbs: SkbAllocator) -> None:
        """The last user went."""


class ReceivedBuffer(PacketMemory):
    """A buffer of a driver's strategy, which takes it back.

    Parameters
    ----------
    owner : the queue pair, by its ``release(buffer)``, on its own ``core``
    buffer : its name for the buffer, which has an ``address``
    size : bytes

    Attributes
    ----------
    leave : called with the buffer when an SKB gets it, for it leaves a pool then; None: it does not
    """

    __slots__ = ("buffer", "leave", "owner")

    def __init__(self, owner: Any, buffer: Any, size: int, *, writable: bool, recycles: bool) -> None:
        super().__init__(buffer.address, size, writable=writable, recycles=recycles)
        self.owner = owner
        self.buffer = buffer
        self.leave: Callable[[Any], None] | None = None

    def attach(self) -> None:
        """An SKB has it from now on. Not said of one whose bytes were copied."""
        if self.leave is not None:
            self.leave(self.buffer)

    def release(self, skbs: SkbAllocator) -> None:
        """Back to the queue pair."""
        if skbs.core is not self.owner.core:
            raise RuntimeError(
                f"Buffer at {self.address:#x} of core {self.owner.core.index} is given back on core {skbs.core.index}"
            )
        self.owner.release(self.buffer)


class KmallocMemory(PacketMemory):
    """Memory of kmalloc."""

    __slots__ = ("object",)
    is_page = False

    def __init__(self, object_: SlabObject) -> None:
        super().__init__(object_.address, object_.size)
        self.object = object_

    def release(self, skbs: SkbAllocator) -> None:
        """``kfree``."""
        skbs.slab.kfree(self.object)


class FragmentMemory(PacketMemory):
    """A fragment of a page that others have fragments of, too."""

    __slots__ = ("fragment",)

    def __init__(self, fragment: PageFrag) -> None:
        super().__init__(fragment.address, fragment.size)
        self.fragment = fragment

    def release(self, skbs: SkbAllocator) -> None:
        """``page_frag_free``."""
        skbs.frags.page_frag_free(self.fragment)
