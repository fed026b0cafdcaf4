# SPDX-License-Identifier: BSD-2-Clause
"""Leaves that are cached in pieces: one invalidation at any address of the leaf drops all of them."""

from collections.abc import Callable

import pytest

from hw.bus.axi4 import Response
from tests.golden.paging import SV39, SV48
from tests.golden.tables import PAGE
from tests.hw.iommu.bench import INVALIDATE, IommuBench, fence, invalidate

Part = tuple[list[int], int, bytes]  #: addresses in one leaf, where that is, and the command for the first address
GSCID = 3


def first_stage_over_smaller_pages(bench: IommuBench) -> Part:
    """2 MiB of the guest, of which each page is mapped for itself."""
    tables = bench.tables
    second = tables.take_root()
    root = bench.space(second=(SV39, second), gscid=GSCID)
    leaf = tables.map(SV39, root, 0x20_0000, 0, level=1)[-1]
    pages = [tables.take() for _ in range(2)]
    for page in {root, leaf // PAGE, *pages}:
        tables.map(SV39, second, page * PAGE, page, wide=True)
    addresses = [0x20_0000 + page * PAGE for page in pages]
    return addresses, leaf, invalidate(addresses[0], gv=1, gscid=GSCID, pscv=1, pscid=1)


def first_stage_of_512_gib(bench: IommuBench) -> Part:
    root = bench.tables.take()
    bench.space(first=(SV48, root))
    leaf = bench.tables.map(SV48, root, 0, 0, level=3)[-1]
    return [0, 0x4000_0000], leaf, invalidate(0, pscv=1, pscid=1)


def second_stage_of_512_gib(bench: IommuBench) -> Part:
    second = bench.tables.take_root()
    bench.space(first=(0, 0), second=(SV48, second), gscid=GSCID)
    leaf = bench.tables.map(SV48, second, 0, 0, level=3, wide=True)[-1]
    command = INVALIDATE.pack(opcode=1, func3=1, av=1, gv=1, gscid=GSCID, address=0)
    return [0, 0x4000_0000], leaf, command


@pytest.mark.parametrize(
    "build", [first_stage_over_smaller_pages, first_stage_of_512_gib, second_stage_of_512_gib], ids=lambda f: f.__name__
)
def test_an_invalidation_of_one_address_drops_every_piece_of_its_leaf(build: Callable[[IommuBench], Part]) -> None:
    bench = IommuBench()
    addresses, leaf, command = build(bench)

    async def main(b: IommuBench) -> None:
        await b.open()
        before = [b.read(address) for address in addresses]
        await b.finish()
        # Where there is no memory, its answer still tells that the address was translated.
        assert Response.SLVERR not in [read.response for read in before]
        b.tables.write(leaf, 0)
        await b.command(command, fence())
        after = [b.read(address) for address in addresses]
        await b.finish()
        assert [read.response for read in after] == [Response.SLVERR] * len(addresses)

    bench.run(main)
