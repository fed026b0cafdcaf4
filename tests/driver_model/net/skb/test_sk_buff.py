# SPDX-License-Identifier: BSD-2-Clause
"""Positions and bytes of an SKB, and what comes of using one wrongly."""

import random
from collections.abc import Callable

import pytest

from driver_model.net.skb.sk_buff import (
    SIZEOF_SHARED_INFO,
    SIZEOF_SK_BUFF,
    SkbError,
    SkBuff,
    skb_load,
    skb_pull,
    skb_push,
    skb_put,
    skb_reserve,
    skb_store,
    skb_truesize,
)
from tests.driver_model.net.skb.skb_kit import HEADROOM, SkbKit


def test_truesize_counts_data_sk_buff_and_shared_info() -> None:
    assert (SIZEOF_SK_BUFF, SIZEOF_SHARED_INFO) == (256, 320)
    assert skb_truesize(1000) == 1000 + 256 + 320


def test_positions() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcdefgh")
    assert (skb.len, skb.headlen, skb.headroom) == (8, 8, HEADROOM)
    assert skb.tailroom == 4096 - HEADROOM - 8 - SIZEOF_SHARED_INFO
    skb_pull(skb, 3)
    assert (kit.bytes(skb), skb.headroom) == (b"defgh", HEADROOM + 3)
    assert skb_push(skb, 2) == skb.head.address + HEADROOM + 1
    assert kit.bytes(skb) == b"bcdefgh"
    kit.core.store_owned(skb_put(skb, 2), b"ij")
    assert kit.bytes(skb) == b"bcdefghij"
    kit.freeing.consume_skb(skb)
    kit.finish()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda skb: skb_put(skb, skb.tailroom + 1), "skb_over_panic: 3513 bytes do not fit behind sk_buff of 8 bytes"),
        (lambda skb: skb_push(skb, HEADROOM + 1), "skb_under_panic: 257 bytes do not fit before sk_buff of 8 bytes"),
        (lambda skb: skb_pull(skb, 9), "skb_pull of 9 bytes from sk_buff of 8 bytes"),
        (lambda skb: skb_put(skb, -1), "skb_over_panic: -1"),
        (lambda skb: skb_push(skb, -1), "skb_under_panic: -1"),
        (lambda skb: skb_reserve(skb, 1), "skb_reserve of 1 bytes of sk_buff of 8 bytes"),
    ],
)
def test_no_room(what: Callable[[SkBuff], object], says: str) -> None:
    kit = SkbKit()
    skb = kit.received(b"abcdefgh")
    skb.holder = "a test"
    before = skb.data, skb.tail, skb.len
    with pytest.raises(SkbError, match=says) as error:
        what(skb)
    assert "held by a test" in str(error.value)
    assert (skb.data, skb.tail, skb.len) == before


def test_no_room_behind_the_linear_part_of_a_packet_in_pieces() -> None:
    kit = SkbKit()
    skb = kit.copied(b"head", [b"frag"])
    assert skb.tailroom == 0
    with pytest.raises(SkbError, match="which is not linear"):
        skb_put(skb, 1)


def test_bytes_wherever_they_lie() -> None:
    seed = 7
    random_ = random.Random(seed)
    kit = SkbKit()
    pieces = [random_.randbytes(random_.randint(1, 1500)) for _ in range(6)]
    whole = b"".join(pieces)
    skb = kit.copied(pieces[0], pieces[1:])
    for _ in range(300):
        start = random_.randint(0, len(whole))
        length = random_.randint(0, len(whole) - start)
        assert skb_load(kit.core, skb, start, length) == whole[start : start + length], (seed, start, length)
    for start, length in ((0, len(whole) + 1), (len(whole), 1), (-1, 1), (0, -1)):
        with pytest.raises(SkbError, match="pass the end"):
            skb_load(kit.core, skb, start, length)


def test_each_line_that_the_device_wrote_is_paid_once_in_the_linear_part_and_each_time_in_fragments() -> None:
    kit = SkbKit()
    skb = kit.received(bytes(200))
    for offset, lines in ((0, 1), (10, 1), (64, 2), (0, 2), (190, 4)):
        skb_load(kit.core, skb, offset, 10)
        assert kit.core.device_line.count == lines, offset
    other = kit.copied(b"head", [bytes(200)])
    skb_load(kit.core, other, 4, 100)
    skb_load(kit.core, other, 4, 100)
    assert kit.core.device_line.count == 4 + 2 + 2


def test_only_what_is_an_skbs_own_can_be_written() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    skb_store(kit.core, skb, 1, b"XY")
    assert kit.bytes(skb) == b"aXYd"
    with pytest.raises(SkbError, match="pass the linear part"):
        skb_store(kit.core, skb, 3, b"XY")
    clone = kit.skbs.skb_clone(skb)
    assert clone is not None
    for each in (skb, clone):
        with pytest.raises(
            SkbError, match=r"Write at tests/.*test_sk_buff.py:\d+ to sk_buff .* but a clone shares its head"
        ):
            skb_store(kit.core, each, 0, b"Z")
    kit.freeing.consume_skb(clone)
    skb_store(kit.core, skb, 0, b"Z")
    readonly = kit.skbs.build_skb(kit.buffer(writable=False))
    assert readonly is not None
    skb_put(readonly, 8)
    with pytest.raises(SkbError, match="its page is read-only"):
        skb_store(kit.core, readonly, 0, b"Z")


def test_an_skb_that_was_freed_is_not_touched() -> None:
    kit = SkbKit()
    skb = kit.received(b"abcd")
    skb.holder = "nobody"
    kit.freeing.consume_skb(skb)
    for what, use in (
        ("read", lambda: skb_load(kit.core, skb, 0, 1)),
        ("write", lambda: skb_store(kit.core, skb, 0, b"Z")),
        ("skb_put", lambda: skb_put(skb, 1)),
        ("skb_push", lambda: skb_push(skb, 1)),
        ("skb_pull", lambda: skb_pull(skb, 1)),
        ("skb_clone", lambda: kit.skbs.skb_clone(skb)),
        ("skb_get", lambda: kit.skbs.skb_get(skb)),
    ):
        says = (
            rf"Use after free: {what} at tests/.*:\d+ of sk_buff of 4 bytes.*, freed at tests/.*:\d+ on core 0, \d+ ps"
        )
        with pytest.raises(SkbError, match=says):
            use()


@pytest.mark.parametrize("checked", [False, True])
def test_double_free_says_where_the_first_was(checked: bool) -> None:
    kit = SkbKit(checked=checked)
    skb = kit.received(b"abcd")
    kit.freeing.consume_skb(skb)
    with pytest.raises(SkbError, match=r"Double free of sk_buff of 4 bytes .* at tests/.*:\d+, \d+ ps: freed") as error:
        kit.freeing.consume_skb(skb)
    assert ("on core 0" in str(error.value)) is checked
    assert len(kit.owner.released) == 1
