# SPDX-License-Identifier: BSD-2-Clause
"""Each rule for SKBs is broken, and found out."""

import pytest

from driver_model.memory.dma.ownership import OwnershipError
from driver_model.net.skb.edit import skb_add_rx_frag
from driver_model.net.skb.memory import ReceivedBuffer
from tests.driver_model.net.skb.skb_kit import HEADROOM, SkbKit


def test_two_packets_in_the_same_bytes() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    page = kit.pages.alloc_pages()
    assert page is not None
    twice = ReceivedBuffer(kit.owner, page, 2048, writable=True, recycles=False)
    twice.address = skb.head.address + 2048
    with pytest.raises(
        OwnershipError, match=r"packet memory overlaps: 2048 bytes .* 4096 at .* came with .*, made at tests"
    ):
        kit.skbs.build_skb(twice)


def test_two_fragments_in_the_same_bytes() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag"])
    memory = kit.buffer()
    memory.address = skb.shinfo.frags[0].memory.address + 4095
    with pytest.raises(OwnershipError, match="packet memory overlaps"):
        skb_add_rx_frag(kit.skbs, skb, memory, memory.address, 1)


def test_neighbours_do_not_overlap() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    page = kit.pages.alloc_pages()
    assert page is not None
    memory = ReceivedBuffer(kit.owner, page, 2048, writable=True, recycles=False)
    memory.address = skb.head.address + 4096
    assert kit.skbs.build_skb(memory) is not None


def test_a_fragment_beyond_its_memory() -> None:
    kit = SkbKit()
    skb, memory = kit.copied(b"head"), kit.buffer()
    with pytest.raises(OwnershipError, match="fragment outside its memory: 3841 bytes"):
        skb_add_rx_frag(kit.skbs, skb, memory, memory.address + HEADROOM, 4096 - HEADROOM + 1)


def test_truesize_below_what_is_kept() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag"])
    skb.truesize -= 1
    with pytest.raises(OwnershipError, match=r"truesize below memory: .* at tests/.* keeps 4864 bytes"):
        kit.freeing.consume_skb(skb)


def test_pp_recycle_without_a_pool() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    skb.pp_recycle = True
    with pytest.raises(OwnershipError, match="pp_recycle without a pool"):
        kit.freeing.consume_skb(skb)


def test_memory_of_a_pool_without_pp_recycle() -> None:
    kit = SkbKit()
    for skb in (kit.received(b"abcd", recycles=True), kit.copied(b"head", [b"frag"], recycles=True)):
        skb.pp_recycle = False
        with pytest.raises(OwnershipError, match="pool memory without pp_recycle"):
            kit.freeing.consume_skb(skb)


def test_a_head_of_kmalloc_with_fragments_of_a_pool_may_recycle() -> None:
    kit = SkbKit()
    kit.freeing.consume_skb(kit.copied(b"head", [b"frag"], recycles=True))
    kit.finish()


def test_a_leak_names_holder_and_line() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    skb.holder = "a socket"
    kit.host.drain()
    leaks = "\n".join(kit.host.leaks())
    assert "sk_buff of 4 bytes" in leaks
    assert "held by a socket), made at tests/driver_model/net/skb/skb_kit.py" in leaks
    assert "4096 bytes allocated at tests/driver_model/net/skb/skb_kit.py" in leaks
    unchecked = SkbKit(checked=False)
    unchecked.received(b"abcd")
    unchecked.host.drain()
    assert unchecked.host.leaks() == ["2 allocations of pages in use"]
