# SPDX-License-Identifier: BSD-2-Clause
"""The page allocator's loops (prototype-kernel, ``page_bench01`` and ``page_bench04_bulk``)."""

from collections.abc import Mapping

from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench
from tests.driver_model.calibration.loop import Prepare, Replay, Turn, loop

OF_2016 = 0  #: the highest order of which that kernel's cores had lists of their own


def single(order: int) -> Prepare:
    def prepare(bench: Bench) -> Turn:
        pages = bench.host.pages[0]

        def turn() -> None:
            page = pages.alloc_pages(order)
            assert page is not None
            pages.put_page(page)

        return turn

    return prepare


def bulk(count: int) -> Replay:
    def prepare(bench: Bench) -> Turn:
        pages = bench.host.pages[0]

        def turn() -> None:
            got: list[Page] = []
            assert pages.alloc_pages_bulk(count, got) == count
            for page in got:
                pages.put_page(page)

        return turn

    return loop(prepare, count)


REPLAYS: Mapping[str, Replay] = {
    "page, order 0, single": loop(single(0)),
    **{f"page, order {order}, single": loop(single(order), pcp_order=OF_2016) for order in (1, 2, 3)},
    **{f"page, order 0, bulk of {count}": bulk(count) for count in (2, 16, 64, 128)},
}
