# SPDX-License-Identifier: BSD-2-Clause
"""What a device may touch, and when: each rule broken on purpose."""

from pathlib import Path

import pytest

from driver_model.memory.dma.api import (
    dma_map_page,
    dma_sync_single_for_cpu,
    dma_sync_single_for_device,
    dma_unmap_page,
)
from tests.driver_model.fake_platform import CYCLE_PS
from tests.driver_model.memory.dma.ownership_kit import BOTH, FROM, TO, Kit, caught

HERE = Path(__file__).name


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_device_outside_any_mapping(kit: Kit) -> None:
    page = kit.page()
    kit.map(page, size=128)
    kit.device(kit.cycle, page.address, 128)
    caught(
        "device access outside a mapping", lambda: kit.device(kit.cycle, page.address + 64, 65), "write of 1 bytes at"
    )


def test_device_before_and_after_the_mapping(kit: Kit) -> None:
    page = kit.page()
    before = kit.cycle - 1
    address = kit.map(page)
    during = kit.cycle
    kit.core.time += 10 * CYCLE_PS
    dma_unmap_page(kit.dev, address, 4096, FROM)
    after = kit.cycle
    accesses = [(during, page.address, 64, True)]
    kit.checker.device_accesses(before, accesses)
    caught(
        "device access outside a mapping", lambda: kit.device(before, page.address, 64), f"in cycle {before}: mapping"
    )
    caught("device access after unmap", lambda: kit.device(after, page.address, 64), "handed over by dma_unmap at")


def test_device_is_judged_by_who_owned_the_bytes_then(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page)
    first = kit.cycle
    kit.core.time += 10 * CYCLE_PS
    dma_sync_single_for_cpu(kit.dev, address, 128, FROM)
    second = kit.cycle
    kit.core.time += 10 * CYCLE_PS
    dma_sync_single_for_device(kit.dev, address, 128, FROM)
    third = kit.cycle
    fine = [(third, page.address, 64, True), (first, page.address, 64, True), (second, page.address + 128, 64, True)]
    kit.checker.device_accesses(0, fine)
    caught(
        "device access of cpu memory",
        lambda: kit.checker.device_accesses(0, [(second, page.address + 64, 65, True)]),
        rf"write of 65 bytes .* in cycle {second}.*then dma_sync_for_cpu at .*{HERE}",
    )


def test_the_edge_of_a_handover_still_belongs_to_the_state_before(kit: Kit) -> None:
    """Software that acts at a time has seen that time's edge already."""
    page = kit.page()
    address = kit.map(page)
    kit.core.time = 1000 * CYCLE_PS - kit.dev.op_sync_cpu.ps
    dma_sync_single_for_cpu(kit.dev, address, 128, FROM)
    assert kit.core.time == 1000 * CYCLE_PS
    kit.device(1000, page.address, 64)
    caught("device access of cpu memory", lambda: kit.device(1001, page.address, 64), "in cycle 1001")


def test_device_against_the_direction(kit: Kit) -> None:
    page, other = kit.page(), kit.page()
    kit.map(page, FROM)
    kit.map(other, TO)
    kit.device(kit.cycle, other.address, 64, write=False)
    rule = "device access against the direction"
    caught(rule, lambda: kit.device(kit.cycle, page.address, 64, write=False), "read of 64")
    caught(rule, lambda: kit.device(kit.cycle, other.address, 64), "write of 64")


def test_device_writes_more_than_was_posted(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page, BOTH)
    kit.checker.posted(kit.core, address + 256, 1000)
    kit.device(kit.cycle, page.address + 256, 1000)
    rule = "device access beyond the posted length"
    caught(rule, lambda: kit.device(kit.cycle, page.address + 256, 1001), rf"then descriptor at .*{HERE}")
    dma_sync_single_for_cpu(kit.dev, address + 256, 64, BOTH)
    kit.core.time += CYCLE_PS
    caught(rule, lambda: kit.device(kit.cycle, page.address + 320, 64), "then dma_sync_for_cpu at")


def test_a_page_may_be_several_posted_buffers(kit: Kit) -> None:
    page = kit.page()
    address = kit.map(page, BOTH)
    for offset in (0, 2048):
        kit.checker.posted(kit.core, address + offset, 1000)
        kit.core.time += CYCLE_PS
    for offset in (0, 2048):
        kit.device(kit.cycle, page.address + offset, 1000)
    rule = "device access beyond the posted length"
    caught(rule, lambda: kit.device(kit.cycle, page.address + 1000, 64), "then descriptor at")
    dma_sync_single_for_cpu(kit.dev, address, 64, BOTH)
    kit.core.time += CYCLE_PS
    kit.device(kit.cycle, page.address + 2048, 1000)
    caught(rule, lambda: kit.device(kit.cycle, page.address + 64, 64), "then dma_sync_for_cpu at")


def test_an_access_over_two_mappings_needs_both(kit: Kit) -> None:
    page = kit.page(order=1)
    lower = kit.map(page)
    kit.device(kit.cycle, page.address + 4000, 96)
    caught(
        "device access outside a mapping", lambda: kit.device(kit.cycle, page.address + 4000, 97), "write of 1 bytes"
    )
    upper = dma_map_page(kit.dev, page, 4096, 4096, FROM)
    kit.device(kit.cycle, page.address + 4000, 200)
    assert lower + 4096 == upper
    dma_sync_single_for_cpu(kit.dev, upper, 64, FROM)
    kit.core.time += CYCLE_PS
    rule = "device access of cpu memory"
    caught(rule, lambda: kit.device(kit.cycle, page.address + 4000, 200), f"write of 104 bytes at {upper:#x}")
