# SPDX-License-Identifier: BSD-2-Clause
"""The kfuncs by which XDP programs ask for metadata."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from driver_model.memory.pages.page import Page
from driver_model.net.xdp import XDP_PACKET_HEADROOM, XdpBuff
from driver_model.net.xdp_metadata import (
    XdpMetadata,
    XdpRssType,
    bpf_xdp_metadata_rx_hash,
    bpf_xdp_metadata_rx_vlan_tag,
)
from tests.driver_model.bench import Bench


class Told:
    """Metadata of a driver."""

    def __init__(self, rss: tuple[int, XdpRssType] | None = None, tag: tuple[int, int] | None = None) -> None:
        self.rss, self.tag = rss, tag
        self.header: tuple[int, int] | None = None
        self.changes = 0

    def xmo_rx_hash(self) -> tuple[int, XdpRssType] | None:
        return self.rss

    def xmo_rx_vlan_tag(self) -> tuple[int, int] | None:
        return self.tag

    def frame_changes(self) -> None:
        self.changes += 1


def program_sees(metadata: XdpMetadata | None) -> tuple[Bench, XdpBuff, Page]:
    bench = Bench()
    page = bench.host.pages[0].alloc_pages()
    assert page is not None
    xdp = XdpBuff(bench.core, 0, metadata)
    xdp.begin(page.address, XDP_PACKET_HEADROOM, 60)
    return bench, xdp, page


def test_hash_and_tag() -> None:
    bench, xdp, _ = program_sees(Told((7, XdpRssType.L3_IPV6), (0x88A8, 0x2005)))
    assert bpf_xdp_metadata_rx_hash(xdp) == (7, XdpRssType.L3_IPV6)
    assert bpf_xdp_metadata_rx_vlan_tag(xdp) == (0x88A8, 0x2005)
    assert bench.core.op("xdp.metadata").count == 2


def test_a_program_that_writes_tells_the_driver() -> None:
    told = Told()
    _, xdp, _ = program_sees(told)
    xdp.load(0, 14)
    assert told.changes == 0
    xdp.store(0, bytes(6))
    assert told.changes == 1


@pytest.mark.parametrize("kfunc", [bpf_xdp_metadata_rx_hash, bpf_xdp_metadata_rx_vlan_tag])
@pytest.mark.parametrize(("metadata", "error"), [(Told(), errno.ENODATA), (None, errno.EOPNOTSUPP)])
def test_what_is_not_there(kfunc: Callable[[XdpBuff], Any], metadata: Told | None, error: int) -> None:
    _, xdp, _ = program_sees(metadata)
    with pytest.raises(OSError, match="no metadata|not hashed|No VLAN tag") as refusal:
        kfunc(xdp)
    assert refusal.value.errno == error
