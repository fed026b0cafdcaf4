# SPDX-License-Identifier: BSD-2-Clause
"""What SKBs must keep to, checked with each step; and who has those that are left at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from driver_model.memory.pages.page import PAGE_SHIFT
from driver_model.memory.site import Site, caller, told
from driver_model.net.skb.memory import PacketMemory, ReceivedBuffer
from driver_model.net.skb.sk_buff import SIZEOF_SK_BUFF, SkBuff

if TYPE_CHECKING:
    from collections.abc import Callable

    from driver_model.cpu.core import Core


class Step(NamedTuple):
    """Something was done with an SKB or its memory."""

    verb: str
    site: Site
    core: int
    time: int

    def __str__(self) -> str:
        return f"{self.verb} at {told(self.site)} on core {self.core}, {self.time} ps"


class SkbChecker:
    """Checks the SKBs of all cores of a machine.

    Rules: ``packet memory overlaps`` (two pieces of memory of which packets are made have bytes in common),
    ``fragment outside its memory``, ``truesize below memory`` (an SKB that no socket is charged for keeps more from
    others than it counts), ``pp_recycle without a pool`` (set, and the head is a received buffer that goes back to
    none), and ``pool memory without pp_recycle``, which would leave the pool by ``put_page``.

    An SKB is looked at when it goes up the stack, when another one is coalesced into it, and when it is freed.

    Parameters
    ----------
    report : told of a broken rule: its name, and the story

    Attributes
    ----------
    live : SKBs that were not freed, and where each was made
    """

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self.live: dict[SkBuff, Step] = {}
        self._report = report
        self._by_frame: dict[int, list[tuple[PacketMemory, SkBuff]]] = {}

    def made(self, core: Core, skb: SkBuff) -> None:
        """An SKB came to be, with a head that is no other's yet unless it is a clone."""
        self.live[skb] = Step("made", caller(), core.index, core.time)
        if not skb.cloned:
            self.attached(skb, skb.head)

    def freed(self, core: Core, skb: SkBuff) -> None:
        """An SKB is about to give its memory back."""
        skb.freed = Step("freed", caller(), core.index, core.time)
        if self.live.pop(skb, None) is not None:
            self.check(skb)

    def check(self, skb: SkBuff) -> None:
        """Look at one."""
        kept = sum(piece.size for piece in skb.memory) + (SIZEOF_SK_BUFF if skb.struct is not None else 0)
        if kept > skb.truesize and skb.sk is None:
            self._report("truesize below memory", f"{skb!r} at {told(caller())} keeps {kept} bytes")
        if skb.pp_recycle:
            if isinstance(skb.head, ReceivedBuffer) and not skb.head.recycles:
                self._report("pp_recycle without a pool", f"{skb!r} at {told(caller())}")
        elif any(piece.recycles for piece in skb.memory):
            self._report("pool memory without pp_recycle", f"{skb!r} at {told(caller())}")

    def attached(self, skb: SkBuff, memory: PacketMemory) -> None:
        """Memory becomes a packet's."""
        for frame in _frames(memory):
            others = self._by_frame.setdefault(frame, [])
            for other, first in others:
                if other.address < memory.address + memory.size and memory.address < other.address + other.size:
                    self._report(
                        "packet memory overlaps",
                        f"{memory.size} bytes at {memory.address:#x} for {skb!r} at {told(caller())}: {other.size} at "
                        f"{other.address:#x} came with {first!r}, {self.live.get(first, first.freed)}",
                    )
            others.append((memory, skb))

    def detached(self, memory: PacketMemory) -> None:
        """No packet has it any more."""
        for frame in _frames(memory):
            others = self._by_frame.get(frame, [])
            others[:] = [entry for entry in others if entry[0] is not memory]

    def fragment(self, skb: SkBuff, memory: PacketMemory, address: int, length: int) -> None:
        """Bytes of some memory become a packet's fragment."""
        self.attached(skb, memory)
        if not memory.address <= address <= address + length <= memory.address + memory.size:
            self._report(
                "fragment outside its memory",
                f"{length} bytes at {address:#x} of {memory.size} at {memory.address:#x}, {skb!r} at {told(caller())}",
            )

    def leaks(self) -> list[str]:
        """SKBs that were not freed, in words."""
        return [f"{skb!r}, {step}" for skb, step in self.live.items()]


def _frames(memory: PacketMemory) -> range:
    return range(memory.address >> PAGE_SHIFT, (memory.address + memory.size - 1 >> PAGE_SHIFT) + 1)
