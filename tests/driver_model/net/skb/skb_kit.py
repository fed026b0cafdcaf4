# SPDX-License-Identifier: BSD-2-Clause
"""A host without a driver that makes SKBs: what their tests have in common."""

from collections.abc import Callable, Sequence
from typing import Any

from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.memory.pages.page import Page
from driver_model.memory.pages.zone import Zone
from driver_model.net.skb.edit import skb_add_rx_frag
from driver_model.net.skb.memory import ReceivedBuffer
from driver_model.net.skb.policy import SkbPolicy
from driver_model.net.skb.sk_buff import SkBuff, skb_load, skb_put, skb_reserve
from tests.driver_model.cpu.machine import run
from tests.driver_model.fake_platform import CYCLE_PS, FakePlatform

HEADROOM = 256


class Owner:
    """A queue pair as received buffers know it: frees their pages."""

    def __init__(self, core: Core, release: Callable[[Page], None]) -> None:
        self.core = core
        self.released: list[int] = []
        self._release = release

    def release(self, buffer: Page) -> None:
        """Free the page."""
        self.released.append(buffer.address)
        self._release(buffer)


class SkbKit:
    """A host of one core with a policy of SKBs, and where they are made and freed."""

    def __init__(self, policy: SkbPolicy | None = None, *, checked: bool = True, memory: int = 4 << 20) -> None:
        self.platform = FakePlatform(memory, log=False)
        system = System(self.platform, Profile.load("e5-1650v4"), 1)
        self.core = system.cores[0]
        self.checker = OwnershipChecker(CYCLE_PS) if checked else None
        zone = Zone(memory, min_free_kbytes=0)
        self.host = Host(system.cores, checker=self.checker, zone=zone, skb_policy=policy)
        self.skbs = self.host.softnets[0].skbs
        self.freeing = self.host.softnets[0].freeing
        self.pages = self.host.pages[0]
        self.owner = Owner(self.core, self.pages.put_page)

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in a process until it returns."""
        return run(self.platform, self.core, function)

    def buffer(self, data: bytes = b"", *, writable: bool = True, recycles: bool = False) -> ReceivedBuffer:
        """A page with bytes that a device wrote, behind the headroom."""
        page = self.pages.alloc_pages()
        assert page is not None
        self.platform.device_write(page.address + HEADROOM, data)
        return ReceivedBuffer(self.owner, page, page.size, writable=writable, recycles=recycles)

    def received(self, data: bytes, *, recycles: bool = False) -> SkBuff:
        """An SKB built around such a page."""
        skb = self.skbs.build_skb(self.buffer(data, recycles=recycles))
        assert skb is not None
        skb_reserve(skb, skb.head.address + HEADROOM - skb.start)
        skb_put(skb, len(data))
        return skb

    def copied(self, data: bytes, frags: Sequence[bytes] = (), *, recycles: bool = False) -> SkBuff:
        """An SKB with a head of its own, and read-only fragments."""
        skb = self.skbs.napi_alloc_skb(len(data))
        assert skb is not None
        self.core.store_owned(skb_put(skb, len(data)), data)
        skb.touched = skb.tail
        for frag in frags:
            memory = self.buffer(frag, writable=False, recycles=recycles)
            skb_add_rx_frag(self.skbs, skb, memory, memory.address + HEADROOM, len(frag))
            skb.pp_recycle = recycles
        return skb

    def bytes(self, skb: SkBuff) -> bytes:
        """All of a packet's bytes."""
        return skb_load(self.core, skb, 0, skb.len)

    def count(self, name: str) -> int:
        """How often the core was charged an operation."""
        return self.core.op(name).count

    def counts(self, *names: str) -> dict[str, int]:
        """Those of some operations that were charged."""
        return {name: self.count(name) for name in names if self.count(name)}

    def finish(self) -> None:
        """Everything was given back."""
        self.host.drain()
        assert not self.host.leaks()
        assert self.host.pages_in_use == 0
        assert self.skbs.statistics.allocated == self.skbs.statistics.freed
