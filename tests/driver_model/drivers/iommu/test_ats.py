# SPDX-License-Identifier: BSD-2-Clause
"""Devices that keep translations (ATS): what they are told to forget, when, and what becomes of silence."""

from typing import Any

import pytest

from driver_model.drivers.iommu.commands import invalidate_device
from driver_model.drivers.iommu.registers import IommuError
from driver_model.memory.dma.api import DmaDirection, dma_unmap_single
from driver_model.memory.pages.page import PAGE_SIZE
from hw.abi.codec import Codec
from hw.abi.iommu import AtsCommand, Opcode
from tests.driver_model.iommu_bench import IommuBench

COMMAND = Codec(AtsCommand)
EVERYTHING = (1 << 63) - (1 << 12) | 1 << 11


def kinds(commands: list[Any]) -> list[int]:
    return [command.opcode for command in commands]


def bench(mode: str = "strict", **capabilities: int) -> IommuBench:
    return IommuBench(mode, capabilities={"ats": 1, **capabilities})


@pytest.mark.parametrize(
    ("iova", "size", "payload"),
    [
        (0x5000, 0x1000, 0x5000),
        (0x6000, 0x2000, 0x6000 | 1 << 11),
        (0x5000, 0x2000, 0x5000 & ~0x3FFF | 0x1000 | 1 << 11),  # two pages that only four contain
        (0x7000, 0x2000, 0x7000 | 1 << 11),  # two pages that only sixteen contain
        (0x10000, 0x10000, 0x17000 | 1 << 11),
        (0, 1 << 64, EVERYTHING),
    ],
)
def test_a_range_is_the_smallest_that_contains_it(iova: int, size: int, payload: int) -> None:
    command = COMMAND.unpack(invalidate_device(0x12_3456, iova, size))
    assert command.payload == payload
    assert (command.rid, command.dseg, command.dsv) == (0x3456, 0x12, 1)


@pytest.mark.parametrize("enabled", [False, True])
def test_a_device_is_told_after_the_iommu_and_both_are_waited_for(enabled: bool) -> None:
    b = bench()

    def body() -> None:
        page = b.page()
        if enabled:
            b.iommu.enable_ats(0)
        address = b.map(page)
        done = len(b.hardware.executed)
        dma_unmap_single(b.dev, address, PAGE_SIZE, DmaDirection.FROM_DEVICE)
        commands = b.hardware.executed[done:]
        invalidation, fence, device = Opcode.IOTINVAL.value, Opcode.IOFENCE.value, Opcode.ATS.value
        assert kinds(commands) == [invalidation, fence] + [device, fence] * enabled
        if enabled:
            assert commands[2].payload == address
            assert commands[2].rid == 0
        assert b.iommu.device_invalidations == enabled
        b.dev.pages.put_page(page)

    b.run_open(body)


def test_without_ats_any_more_the_device_keeps_nothing() -> None:
    b = bench()

    def body() -> None:
        b.iommu.enable_ats(0)
        assert b.hardware._context(0, cached=False).tc >> 1 & 1
        done = len(b.hardware.executed)
        b.iommu.disable_ats(0)
        assert not b.hardware._context(0, cached=False).tc >> 1 & 1
        commands = b.hardware.executed[done:]
        assert kinds(commands) == [
            opcode.value for opcode in (Opcode.IODIR, Opcode.IOFENCE, Opcode.ATS, Opcode.IOFENCE)
        ]
        assert commands[2].payload == EVERYTHING
        done = len(b.hardware.executed)
        b.dma.domain.flush_all(b.dev)
        assert Opcode.ATS.value not in kinds(b.hardware.executed[done:])

    b.run_open(body)


def test_detaching_and_flushing_all_name_everything() -> None:
    b = bench("lazy")

    def body() -> None:
        b.iommu.enable_ats(0)
        for forget in (lambda: b.dma.domain.flush_all(b.dev), lambda: b.iommu.detach(0)):
            done = len(b.hardware.executed)
            forget()
            assert [each.payload for each in b.hardware.executed[done:] if each.opcode == Opcode.ATS.value] == [
                EVERYTHING
            ]

    b.run_open(body)


def test_a_device_that_does_not_acknowledge_is_an_error() -> None:
    b = bench()

    def body() -> None:
        b.iommu.enable_ats(0)
        b.hardware.acknowledges = False
        with pytest.raises(IommuError, match="a device did not acknowledge an invalidation in time"):
            b.dma.domain.flush_all(b.dev)

    b.run_open(body, close=False)


def test_an_iommu_without_ats() -> None:
    b = bench(ats=0)

    def body() -> None:
        with pytest.raises(IommuError, match="The IOMMU has no ATS"):
            b.iommu.enable_ats(0)
        with pytest.raises(IommuError, match="The IOMMU has no ATS"):
            b.iommu.attach(3, None, ats=True)

    b.run_open(body)


def test_a_device_keeps_nothing_from_before_the_driver_was_closed() -> None:
    b = bench()

    def body() -> None:
        b.iommu.attach(3, None, ats=True)
        b.iommu.close()
        b.iommu.open()
        domain = b.iommu.new_domain()
        b.iommu.attach(3, domain)
        done = len(b.hardware.executed)
        b.iommu.invalidate_space(b.core, domain.pscid)
        assert Opcode.ATS.value not in {each.opcode for each in b.hardware.executed[done:]}

    b.run_open(body, close=False)
