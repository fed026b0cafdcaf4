# SPDX-License-Identifier: BSD-2-Clause
"""A device on a bench, and ways to break rules of memory with it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driver_model.memory.dma.api import Device, DmaDirection, dma_map_page, dma_mapping_error
from driver_model.memory.dma.ownership import OwnershipChecker, OwnershipError
from driver_model.memory.page_pool.params import PP_FLAG_DMA_MAP, PagePoolParams
from driver_model.memory.page_pool.pool import page_pool_create
from driver_model.memory.page_pool.state import PagePool
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench
from tests.driver_model.fake_platform import CYCLE_PS

KIT = Path(__file__).name
FROM, TO, BOTH = DmaDirection.FROM_DEVICE, DmaDirection.TO_DEVICE, DmaDirection.BIDIRECTIONAL


class Kit:
    """A device, and what a driver and the device do; ``bench`` goes to :class:`tests.driver_model.bench.Bench`."""

    def __init__(self, **bench: Any) -> None:
        self.bench = Bench(**bench)
        assert self.bench.checker is not None
        self.checker: OwnershipChecker = self.bench.checker
        self.dev: Device = self.bench.host.devices[0]
        self.core = self.bench.core

    def page(self, order: int = 0) -> Page:
        page = self.dev.pages.alloc_pages(order)
        assert page is not None
        return page

    def map(self, page: Page, direction: DmaDirection = FROM, size: int = 4096) -> int:
        return self.map_part(page, 0, size, direction)

    def map_part(self, page: Page, offset: int, size: int, direction: DmaDirection = FROM) -> int:
        address = dma_map_page(self.dev, page, offset, size, direction)
        assert not dma_mapping_error(self.dev, address)
        return address

    def pool(self) -> PagePool:
        return page_pool_create(PagePoolParams(self.dev, PP_FLAG_DMA_MAP, dma_dir=BOTH))

    @property
    def cycle(self) -> int:
        """The first hardware cycle after what the core did so far."""
        return self.core.time // CYCLE_PS + 1

    def device(self, cycle: int, address: int, length: int, write: bool = True) -> None:
        self.checker.device_accesses(cycle, [(cycle, address, length, write)])


def caught(rule: str, break_it: Callable[[], object], *story: str) -> None:
    """The rule is broken, and the message tells the story."""
    with pytest.raises(OwnershipError) as error:
        break_it()
    assert error.value.violation.rule == rule
    message = str(error.value)
    assert message.startswith(f"{rule}: ")
    for part in story:
        assert re.search(part, message), f"{part!r} is not in {message!r}"
