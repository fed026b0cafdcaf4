# SPDX-License-Identifier: BSD-2-Clause
"""page_pool whose pages are cut into buffers: several packets a page."""

import re

import pytest

from driver_model.drivers.strategies import strategy
from driver_model.drivers.strategies.base import SKB_TAILROOM, PoolOptions
from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.drivers.strategies.page_pool_fragments import PagePoolFragments
from driver_model.net.xdp import XDP_PACKET_HEADROOM
from tests.driver_model.bench import Bench, frames

MEMORY = 64 << 20
CUT = PoolOptions(fragment_bytes=2048)
RING = 64


@pytest.mark.parametrize("verdict", ["drop", "pass", "tx"])
@pytest.mark.parametrize(("page_size", "pages"), [(4096, RING // 2), (65536, RING // 32)])
def test_frames_in_fragments(verdict: str, page_size: int, pages: int) -> None:
    """With the checkers on, and each frame's bytes compared. A full ring takes so many pages."""
    sent = frames(700, seed=3, low=60, high=1400)
    options = {"pool": CUT, "rx_entries": RING, "tx_entries": RING}
    expected = [sent] if verdict == "pass" else []
    bench = Bench("page_pool", verdict, memory=MEMORY, page_size=page_size, expected=expected, **options)

    def body() -> None:
        bench.start()
        made = bench.driver.queues[0].strategy
        assert isinstance(made, PagePoolFragments)
        assert made.buffer_length == 2048 - XDP_PACKET_HEADROOM - SKB_TAILROOM
        posted = made.pool.frag_page
        assert posted is not None
        assert len([page for page in made.pool.mapped if page.pp_ref_count > 1]) == pages
        for start in range(0, len(sent), 50):
            bench.nic.receive(0, sent[start : start + 50])
            bench.wait(lambda end=start + 50: bench.total("rx_packets") == min(end, len(sent)), "the frames")
        if verdict == "tx":
            bench.wait(lambda: bench.total("tx_packets") == len(sent), "all to be sent")
        assert made.pool.statistics.alloc_slow == 1, "pages are used again"
        bench.finish()

    bench.run(body)
    assert bench.driver.in_flight == 0


def test_one_fragment_that_is_held_keeps_its_page_alone() -> None:
    bench = Bench("page_pool", pool=CUT, page_size=65536, memory=MEMORY)

    def body() -> None:
        bench.start()
        made = bench.driver.queues[0].strategy
        assert isinstance(made, PagePoolFragments)
        napi_context = bench.core.softirq
        napi_context.disable()
        got = [made.allocate() for _ in range(96)]
        buffers = [each[1] for each in got if each is not None]
        kept = buffers.pop(40)
        for buffer in buffers:
            made.release(buffer)
        assert kept.page.pp_ref_count > 0
        pages = {buffer.page for buffer in buffers}
        assert len(pages) in (3, 4)
        idle = set(made.pool.alloc_cache) | set(made.pool.ring)
        assert kept.page not in idle
        assert len(pages & idle) >= 1
        made.release(kept)
        assert kept.page in set(made.pool.alloc_cache) | set(made.pool.ring) | {made.pool.frag_page}
        napi_context.enable()
        bench.finish()

    bench.run(body)


def test_fragments_are_page_pools_alone() -> None:
    assert strategy("page_pool", CUT) is PagePoolFragments
    assert strategy("page_pool") is PagePoolStrategy
    with pytest.raises(ValueError, match="fragment_bytes are for strategy page_pool, not 'fragments'"):
        strategy("fragments", CUT)


@pytest.mark.parametrize("size", [1, 1000, 1025, -64])
def test_sizes_that_make_no_sense(size: int) -> None:
    message = f"fragment_bytes must be 0, or a multiple of 64, 1024 or more, not {size}"
    with pytest.raises(ValueError, match=re.escape(message)):
        PoolOptions(fragment_bytes=size)


def test_a_fragment_must_fit_into_a_page() -> None:
    bench = Bench("page_pool", pool=PoolOptions(fragment_bytes=8192))

    def body() -> None:
        with pytest.raises(ValueError, match=re.escape("fragment_bytes must be in 1..4096")):
            bench.start()

    bench.run(body)
