# SPDX-License-Identifier: BSD-2-Clause
"""Pages that are turned over for as long as nobody holds the other half."""

from typing import Any

import pytest

from driver_model.drivers.strategies.page_flip import BIAS_MAX, BUFFER_BYTES, FlipBuffer, PageFlip
from driver_model.net.napi import Napi
from tests.driver_model.bench import Bench


class Kit:
    """The strategy alone. ``packet`` lets one arrive in the buffer that is posted, and posts the next."""

    def __init__(self, **options: Any) -> None:
        self.bench = Bench(checked=True, **options)
        self.pages = self.bench.host.pages[0]
        self.flip = PageFlip(self.bench.host.devices[0], 64, Napi(self.bench.host.softnets[0], lambda budget: 0))
        self.posted = self.post()

    def post(self) -> FlipBuffer:
        """Post a buffer."""
        got = self.flip.allocate()
        assert got is not None
        assert got[0] == got[1].dma_address + self.flip.headroom
        return got[1]

    def packet(self, *, drop: bool = False) -> FlipBuffer:
        """Receive one, and drop it at once or keep it."""
        buffer = self.flip.received(self.posted, 60)
        if drop:
            self.flip.release(buffer)
        self.posted = self.post()
        return buffer

    def count(self, name: str) -> int:
        """Operations charged."""
        return self.bench.core.op(name).count

    def close(self) -> None:
        """Withdraw what is posted; nothing is left."""
        self.flip.withdraw(self.posted)
        self.flip.close()
        assert self.flip.in_flight == 0
        assert self.bench.host.pages_in_use == 0
        assert self.bench.checker is not None
        self.bench.checker.finish()


def test_a_half_whose_packet_is_dropped_is_posted_again() -> None:
    kit = Kit()
    places = {kit.packet(drop=True).address for _ in range(10)}
    assert places == {kit.posted.address}
    assert (kit.flip.reused, kit.flip.given_up, kit.count("page.alloc")) == (10, 0, 1)
    assert (kit.count("dma.map"), kit.count("dma.unmap"), kit.count("atomic")) == (1, 0, 0)
    assert (kit.count("dma.sync_for_cpu"), kit.count("dma.sync_for_device")) == (10, 11)
    kit.close()


def test_halves_take_turns_while_packets_are_gone_in_time() -> None:
    kit = Kit()
    held: FlipBuffer | None = None
    places = []
    for _ in range(10):
        buffer = kit.packet()
        places.append(buffer.address)
        if held is not None:
            kit.flip.release(held)
        held = buffer
    assert held is not None
    kit.flip.release(held)
    # Of two packets that overlap in time the second finds the first half held, so a page lasts for two.
    assert kit.flip.given_up > 0
    kit = Kit()
    for _ in range(10):
        buffer = kit.packet()
        kit.flip.release(buffer)
        places.append(buffer.address)
    assert (kit.flip.reused, kit.flip.given_up, kit.count("page.alloc")) == (10, 0, 1)
    assert places[-2] ^ places[-1] == BUFFER_BYTES
    assert kit.count("atomic") == 10
    kit.close()


def test_a_page_whose_other_half_is_held_is_given_up_and_freed_by_the_last() -> None:
    kit = Kit()
    first, second = kit.packet(), kit.packet()
    assert first.address ^ second.address == BUFFER_BYTES
    assert kit.posted.home is not first.home
    assert (kit.flip.given_up, kit.flip.in_flight, kit.count("dma.unmap")) == (1, 2, 1)
    kit.flip.release(second)
    assert kit.flip.in_flight == 2
    kit.flip.release(first)
    assert kit.flip.in_flight == 1
    kit.close()


def test_a_reference_of_somebody_else_counts() -> None:
    """As a pipe that has the page, to which no packet belongs any more."""
    kit = Kit()
    buffer = kit.packet()
    page = buffer.home.page
    kit.pages.get_page(page)
    kit.flip.release(buffer)
    kit.packet()
    assert kit.flip.given_up == 1
    assert page.refcount == 2, "the second packet's and the pipe's"


def test_references_are_taken_again_when_they_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver_model.drivers.strategies.page_flip.BIAS_MAX", 4)
    kit = Kit()
    for _ in range(50):
        kit.flip.release(kit.packet())
    assert (kit.flip.given_up, kit.count("page.alloc")) == (0, 1)
    kit.close()
    assert BIAS_MAX == 65535


def test_a_page_of_the_reserve_is_not_kept() -> None:
    kit = Kit()
    kit.posted.home.page.pfmemalloc = True
    kit.packet(drop=True)
    assert kit.flip.given_up == 1
    kit.close()


def test_pages_of_64_kib_are_used_part_by_part_and_then_given_up() -> None:
    kit = Kit(page_size=1 << 16, memory=16 << 20)
    places = []
    for _ in range(40):
        buffer = kit.packet()
        kit.flip.release(buffer)
        places.append(buffer.address)
    assert [place - places[0] for place in places[:32]] == [BUFFER_BYTES * at for at in range(32)]
    assert (kit.flip.given_up, kit.count("page.alloc")) == (1, 2)
    kit.close()


def test_parts_of_a_page_make_up_the_page() -> None:
    """The sum of what packets count for their memory is not less than it."""
    for size in (4096, 1 << 16):
        kit = Kit(page_size=size, memory=16 << 20)
        assert kit.flip.buffer_size == BUFFER_BYTES
        assert size % BUFFER_BYTES == 0


def test_no_memory() -> None:
    kit = Kit()
    while kit.pages.alloc_pages() is not None:
        pass
    buffers = [kit.packet() for _ in range(1)]
    assert buffers[0].home is kit.posted.home
    kit.flip.received(kit.posted, 60)
    assert kit.flip.allocate() is None, "both halves are held"
