# SPDX-License-Identifier: BSD-2-Clause
"""XDP programs and what they may touch."""

import pytest

from driver_model.memory.pages.page import Page
from driver_model.net.xdp import XDP_PACKET_HEADROOM, XdpAction, XdpBuff
from driver_model.net.xdp_programs import program
from tests.driver_model.bench import Bench


@pytest.mark.parametrize(("name", "action"), [("drop", XdpAction.DROP), ("tx", XdpAction.TX), ("pass", XdpAction.PASS)])
def test_built_in_programs(name: str, action: XdpAction) -> None:
    bench = Bench(checked=False)
    assert program(name).run(XdpBuff(bench.core, 0)) is action


def test_unknown_program() -> None:
    with pytest.raises(
        ValueError, match="XDP program must be one of drop, tx, pass, redirect, none, or FILE.py:NAME, not 'forward'"
    ):
        program("forward")


def frame() -> tuple[Bench, XdpBuff, Page]:
    bench = Bench()
    page = bench.host.pages[0].alloc_pages()
    assert page is not None
    xdp = XdpBuff(bench.core, 0)
    xdp.begin(page.address, XDP_PACKET_HEADROOM, 100)
    return bench, xdp, page


def test_a_program_reads_and_writes_the_frame_and_nothing_else() -> None:
    _, xdp, page = frame()
    xdp.store(98, b"ab")
    assert xdp.load(96, 4) == b"\0\0ab"
    assert xdp.data == page.address + 256
    assert xdp.data_hard_start == page.address
    for offset, length in ((97, 4), (-1, 1), (0, 101)):
        with pytest.raises(IndexError, match=f"{length} bytes at {offset} pass the end of a frame of 100 bytes"):
            xdp.load(offset, length)


def test_each_line_misses_once() -> None:
    bench, xdp, _ = frame()
    xdp.load(0, 14)
    xdp.load(20, 20)
    assert bench.core.device_line.count == 1
    xdp.load(60, 8)
    assert bench.core.device_line.count == 2
    xdp.load(0, 100)
    assert bench.core.device_line.count == 2
