# SPDX-License-Identifier: BSD-2-Clause
"""What walks find, against the golden model: random directories and tables with every kind of defect."""

import pytest

from hw.abi.iommu import DirectoryMode
from hw.abi.rings import AddressType
from hw.config import IommuConfig
from hw.iommu.interfaces import Access
from tests.golden.coverage import Coverage
from tests.golden.generate import World, generate
from tests.golden.machine import capabilities
from tests.golden.model import Access as Asked
from tests.golden.model import AddressType as Kind
from tests.golden.model import Iommu, Request, Result
from tests.golden.paging import Fetch
from tests.hw.iommu.walk_bench import Result as Found
from tests.hw.iommu.walk_bench import WalkBench, request

GUEST_PAGE_FAULTS = (20, 21, 23)
TOLD_NOTHING = (13, 21)  #: causes of which a device that asks for a translation learns that there is none
PAGE_OFFSET = 0xFFF
LEAST = IommuConfig(first_levels=3, second_levels=3, physical_bits=40, hardware_ad=False, ats=False, walks=1)


def wanted(each: Request) -> dict[str, object]:
    access = Access[each.access.name]
    if each.address_type is Kind.TRANSLATION_REQUEST and access is Access.READ and not each.iova & 1:
        access = Access.TRANSLATE
    return request(each.device_id, each.iova, access, AddressType[each.address_type.name], each.process_id)


def is_prefetch(each: Request) -> bool:
    """It comes to the walker as the access that it announces."""
    return each.address_type is Kind.PREFETCH and each.access is Asked.READ


def difference(asked: Request, golden: Result, found: Found) -> str:
    """What the walk found instead; empty if nothing."""
    if golden.record is None and golden.address is None:
        right = found.cause.value in TOLD_NOTHING
    elif golden.record is None:
        right = found.cause.value == 0 and found.ppn << 12 | asked.iova & PAGE_OFFSET == golden.address
    else:
        iotval2 = golden.record.iotval2
        if golden.record.cause in GUEST_PAGE_FAULTS and not iotval2 & 1:
            iotval2 &= ~PAGE_OFFSET  # the reporter adds the place in the page
        right = (found.cause.value, found.quiet, found.iotval2) == (golden.record.cause, not golden.reported, iotval2)
    return "" if right else f"{asked}\nshould be {golden}\nbut is {found}"


def compare(world: World, config: IommuConfig, *, caching: bool) -> tuple[list[Result], WalkBench]:
    """Every request on the walker and in the model, and memory afterwards."""
    world.requests = [each for each in world.requests if not is_prefetch(each)]
    data = bytearray(world.memory.data)
    golden = Iommu(world.memory, world.mode, world.root, world.capabilities)
    expected = [golden.translate(each) for each in world.requests]
    bench = WalkBench(
        data,
        mode=DirectoryMode(world.mode.value),
        root=world.root,
        config=config,
        seed=world.seed,
        caching=caching,
        latency=(0, 6),
        stall=0.2,
    )
    found = bench.run(map(wanted, world.requests), at_once=1 if world.ordered else None)
    for asked, result, walk in zip(world.requests, expected, found, strict=True):
        assert not (text := difference(asked, result, walk)), f"seed {world.seed}: {text}"
    assert data == world.memory.data, f"seed {world.seed}: A and D bits differ"
    return expected, bench


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("config", [IommuConfig(), LEAST], ids=["whole", "least"])
def test_random_worlds(config: IommuConfig, caching: bool) -> None:
    """Without caches, and where nothing is written, what is read is what the model reads, too."""
    coverage = Coverage()
    for seed in range(3):
        world = generate(seed + 1000 * caching, capabilities(config), requests=40, execute=True)
        expected, bench = compare(world, config, caching=caching)
        for result in expected:
            coverage.add(result)
        if not caching and not any(result.updates for result in expected):
            fetches = [fetch for result in expected for fetch in result.fetches]
            within = [fetch for fetch in fetches if not fetch.address >> config.physical_bits]
            reads = [Fetch(read.address, 8 * read.beats) for read in bench.memory.reads]
            if world.ordered:
                assert reads == within, f"seed {seed}"
            else:
                assert sorted(reads) == sorted(within), f"seed {seed}"
    print(coverage.table())
    # Rare ones are left to the comparison of the whole, which has the time.
    assert len(coverage.causes()) >= 8
