# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's driver: finding it, its queues, its directory, and what it says when something is wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from driver_model.drivers.iommu.commands import FENCE_TIMEOUT_PS, invalidate_page, invalidate_range
from driver_model.drivers.iommu.driver import IommuSetup, RiscvIommu
from driver_model.drivers.iommu.registers import IommuError
from driver_model.memory.pages.page import PAGE_SIZE
from hw.abi.iommu import Cause, Event
from tests.driver_model.bench import Bench
from tests.driver_model.iommu_bench import IommuBench

PROBE = {"version": 0x20}, {"sv39": 0}, {"igs": 0}


def within(bench: IommuBench, body: Callable[[], Any], *, close: bool = True) -> Any:
    """Run a body in a process with the IOMMU open, and check that nothing is left."""

    def process() -> Any:
        bench.open_iommu()
        result = body()
        if close:
            bench.close_iommu()
        return result

    return bench.run(process)


@pytest.mark.parametrize("capabilities", PROBE, ids=lambda each: next(iter(each)))
def test_what_does_not_suit_is_refused(capabilities: dict[str, int]) -> None:
    bench = IommuBench(capabilities=capabilities)
    with pytest.raises(IommuError, match="its capabilities read 0x"):
        bench.run(bench.iommu.probe)


def test_a_machine_without_iommu() -> None:
    with pytest.raises(IommuError, match="This machine has no IOMMU"):
        RiscvIommu(Bench().host)


def test_order_of_calls() -> None:
    bench = IommuBench()

    def body() -> None:
        with pytest.raises(IommuError, match="must be probed before it is opened"):
            bench.iommu.open()
        with pytest.raises(IommuError, match="is not open"):
            bench.iommu.close()
        bench.open_iommu()
        with pytest.raises(IommuError, match="is open already"):
            bench.iommu.open()
        bench.close_iommu()
        bench.open_iommu()  # and again
        assert bench.reaches(bench.map(bench.page()))

    bench.run(body)


@pytest.mark.parametrize(("bits", "mode"), [(7, 2), (8, 3), (16, 3), (17, 4), (24, 4)])
def test_levels_of_the_directory(bits: int, mode: int) -> None:
    bench = IommuBench("passthrough", setup=IommuSetup(device_id_bits=bits))
    ids = [0, (1 << bits) - 1, (1 << bits) // 3]

    def body() -> None:
        domain = bench.iommu.new_domain()
        page = bench.page()
        assert domain.map(bench.dev, 0x5000, page.address, PAGE_SIZE, writable=True)
        assert bench.hardware.field("ddtp", "iommu_mode") == mode
        for device_id in ids[1:]:
            assert bench.hardware.translate(device_id, 0x5000, 8, write=True) is None
            bench.iommu.attach(device_id, domain)
            assert bench.hardware.translate(device_id, 0x5000, 8, write=True) == [(page.address, 8)]
        assert bench.hardware.translate(0, 0x5000, 8, write=True) == [(0x5000, 8)]  # passes through
        for device_id in ids[1:]:
            bench.iommu.detach(device_id)
            assert bench.hardware.translate(device_id, 0x5000, 8, write=True) is None
        bench.iommu.free_domain(domain)
        bench.dev.pages.put_page(page)
        with pytest.raises(ValueError, match=f"device_id must have {bits} bits, not {1 << bits}"):
            bench.iommu.attach(1 << bits, None)

    within(bench, body)
    assert {fault.cause for fault in bench.iommu.faults.faults} == {Cause.DIRECTORY_INVALID.value}
    assert bench.iommu.faults.count == 4


def test_moving_a_device_to_another_domain_tells_the_iommu() -> None:
    bench = IommuBench("passthrough")

    def body() -> None:
        pages = [bench.page(), bench.page()]
        domains = [bench.iommu.new_domain(), bench.iommu.new_domain()]
        assert domains[0].pscid != domains[1].pscid
        for domain, page in zip(domains, pages, strict=True):
            assert domain.map(bench.dev, 0x5000, page.address, PAGE_SIZE, writable=True)
            bench.iommu.attach(3, domain)
            assert bench.hardware.translate(3, 0x5000, 8, write=True) == [(page.address, 8)]
        bench.iommu.detach(3)
        for domain, page in zip(domains, pages, strict=True):
            bench.iommu.free_domain(domain)
            bench.dev.pages.put_page(page)

    within(bench, body)


def test_the_command_ring_wraps_and_fills() -> None:
    bench = IommuBench(setup=IommuSetup(command_entries=4))

    def body() -> None:
        for turn in range(5):
            bench.iommu.invalidate_range(bench.core, 1, 0x10000 * turn, 7 * PAGE_SIZE)
        assert bench.hardware.values["cqh"] == bench.hardware.values["cqt"]

    within(bench, body)
    pages = [command.address for command in bench.hardware.executed if "pscv" in command._fields and command.av]
    assert pages == [0x10 * turn + page for turn in range(5) for page in range(7)]


def test_ranges_as_one_command() -> None:
    bench = IommuBench(setup=IommuSetup(range_invalidation=True))

    def body() -> None:
        bench.iommu.invalidate_range(bench.core, 1, 0x7000, 11 * PAGE_SIZE)

    within(bench, body)
    commands = [command for command in bench.hardware.executed if "pscv" in command._fields and command.av]
    # pages 7, then 8..15, then 16 and 17: the specification's encoding of a range is its first page and trailing ones
    assert [(command.s, command.address) for command in commands] == [(0, 7), (1, 0b1011), (1, 0b10000)]
    assert invalidate_range(1, 0x10000, 2 * PAGE_SIZE) != invalidate_page(1, 0x10000)


def test_without_range_invalidation_in_hardware_every_page_is_named() -> None:
    bench = IommuBench(setup=IommuSetup(range_invalidation=True), capabilities={"s": 0})

    def body() -> int:
        bench.iommu.invalidate_range(bench.core, 1, 0x8000, 8 * PAGE_SIZE)
        return bench.iommu.page_invalidations

    assert within(bench, body) == 8


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({"cmd_ill": 1}, "the command is illegal"),
        ({"cmd_to": 1}, "a device did not acknowledge an invalidation in time"),
        ({"cqmf": 1}, "memory refused the fetch"),
        ({"cqon": 0}, "the queue is off"),
        ({}, "no error is reported"),
    ],
)
def test_a_fence_that_does_not_complete_is_explained(errors: dict[str, int], message: str) -> None:
    bench = IommuBench()

    def body() -> None:
        bench.hardware.stuck = True
        bench.hardware.set("cqcsr", **errors)
        start = bench.core.time
        with pytest.raises(IommuError, match=rf"did not complete within 20 ms: cqcsr is 0x\w+ \({message}.*\), head "):
            bench.iommu.invalidate_space(bench.core, 1)
        assert bench.core.time - start < FENCE_TIMEOUT_PS + 10**8

    within(bench, body, close=False)


def test_fences_of_an_interrupt_do_not_hide_those_of_what_it_met() -> None:
    """Both wait for the same word; the later number is the interrupt's."""
    bench = IommuBench()
    order: list[str] = []

    def handler() -> None:
        bench.iommu.invalidate_space(bench.core, 2)
        order.append("interrupt")

    def body() -> None:
        bench.core.sync()
        bench.platform.at(bench.platform.now + 500_000, lambda: bench.core.interrupt(handler))
        bench.iommu.invalidate_range(bench.core, 1, 0, 10 * PAGE_SIZE)
        order.append("process")
        assert bench.hardware.values["cqh"] == bench.hardware.values["cqt"]

    within(bench, body)
    assert order == ["interrupt", "process"]


def test_faults_are_recorded_and_an_overflow_is_told() -> None:
    bench = IommuBench(setup=IommuSetup(fault_entries=128))
    fits = 127

    def body() -> None:
        for number in range(fits + 50):  # all before the handler runs
            assert bench.hardware.translate(0, 0x1000 * number, 8, write=number % 2 == 1) is None
        bench.core.sleep_until(bench.core.time + 10**9)
        faults = bench.iommu.faults
        assert faults.count == fits
        assert faults.overflows == 1
        assert [fault.address for fault in faults.faults] == [0x1000 * number for number in range(fits)]
        assert faults.causes == {Cause.READ_PAGE.value: 64, Cause.WRITE_PAGE.value: 63}
        assert "UNTRANSLATED_WRITE at 0x1000: WRITE_PAGE" in str(faults.faults[1])
        assert bench.hardware.field("fqcsr", "fqof") == 0
        before = faults.interrupts
        assert not bench.reaches(0x9000)  # recording goes on
        bench.core.sleep_until(bench.core.time + 10**9)
        assert (faults.count, faults.interrupts) == (fits + 1, before + 1)

    within(bench, body)


def test_a_record_that_comes_while_the_handler_runs() -> None:
    bench = IommuBench()

    def body() -> None:
        for number in range(40):
            late = bench.platform.now + 137_000 * number
            bench.platform.at(late, lambda: bench.hardware.translate(0, 0x1000, 8, write=False))
        bench.core.sleep_until(bench.core.time + 10**9)
        assert bench.iommu.faults.count == 40
        assert bench.iommu.faults.interrupts < 40

    within(bench, body)


def test_a_bit_that_was_set_again_while_it_was_cleared() -> None:
    """The wire never fell, so that no other interrupt comes."""
    bench = IommuBench()
    hardware = bench.hardware
    write = bench.platform.on_iommu_write
    again = [True]

    def clear(offset: int, value: int, size: int) -> None:
        if offset == hardware.map["ipsr"].offset and again:
            again.clear()
            hardware.translate(0, 0x2000, 8, write=False)  # fip is on: no edge
            return
        write(offset, value, size)

    bench.platform.on_iommu_write = clear

    def body() -> None:
        hardware.translate(0, 0x1000, 8, write=False)
        bench.core.sleep_until(bench.core.time + 10**9)
        assert bench.iommu.faults.count == 2
        hardware.translate(0, 0x3000, 8, write=False)
        bench.core.sleep_until(bench.core.time + 10**9)
        assert bench.iommu.faults.count == 3

    within(bench, body)


@pytest.mark.parametrize(("levels", "aperture"), [(3, (1 << 32) - 1), (4, (1 << 47) - 1)])
def test_debug_translation(levels: int, aperture: int) -> None:
    setup = IommuSetup(levels=levels, aperture=aperture, page_sizes=(4096, 65536, 2 << 20))
    bench = IommuBench(setup=setup, memory=16 << 20)

    def body() -> None:
        for order in (0, 4, 9):
            page = bench.dev.pages.alloc_pages(order)
            assert page is not None
            address = bench.map(page)
            assert bench.iommu.translate(0, address + 0x123, write=True) == (page.address + 0x123, page.size)
        assert bench.iommu.translate(0, 0x5000) is None
        assert bench.iommu.faults.count == 0

    within(bench, body, close=False)


def test_event_counters() -> None:
    bench = IommuBench()

    def body() -> None:
        bench.iommu.count_events([Event.TLB_MISS, Event.FIRST_WALK])
        assert bench.hardware.field("iohpmevt2", "eventid") == Event.FIRST_WALK.value
        bench.hardware.values["iohpmctr1"] = 7
        assert bench.iommu.event_counts() == {"iommu_tlb_miss": 7, "iommu_first_walk": 0}
        with pytest.raises(IommuError, match="has 4 performance counters, not 5"):
            bench.iommu.count_events([Event.TLB_MISS] * 5)

    within(bench, body)


def test_statistics() -> None:
    bench = IommuBench()

    def body() -> None:
        bench.iommu.invalidate_space(bench.core, 1)
        bench.iommu.invalidate_range(bench.core, 1, 0, 3 * PAGE_SIZE)

    within(bench, body)
    assert bench.iommu.statistics() == {
        "iommu_commands": 6 + 2 + 2,  # with closing: the context's, and the domain's
        "iommu_fences": 2 + 1 + 1,
        "iommu_page_invalidations": 3,
        "iommu_space_invalidations": 1 + 1,
        "iommu_device_invalidations": 0,
        "iommu_faults": 0,
        "iommu_fault_overflows": 0,
    }


def test_a_mode_that_does_not_exist() -> None:
    bench = IommuBench()
    with pytest.raises(ValueError, match="one of passthrough, strict, lazy, not 'none'"):
        bench.iommu.set_up_dma(0, "none")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"command_entries": 100}, ValueError, r"command_entries must be a power of two in 2\.\.131072, not 100"),
        ({"fault_entries": 1.0}, TypeError, "fault_entries must be an integer, not 1.0"),
        ({"levels": 2}, ValueError, "levels must be 3 or 4, not 2"),
        ({"aperture": 0}, ValueError, "aperture must lie in the lower half of 3 levels, not 0"),
    ],
)
def test_bad_setup(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        IommuSetup(**arguments)
