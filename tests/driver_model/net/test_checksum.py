# SPDX-License-Identifier: BSD-2-Clause
"""The Internet checksum against scapy's, and its incremental form against itself."""

import random

import pytest
from scapy.utils import checksum

from driver_model.net.checksum import csum_fold, csum_partial, csum_replace


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xff", b"\xff", b"\0\1\xff\xfe", bytes(40), b"\xff" * 40])
def test_edges(data: bytes) -> None:
    assert csum_fold(csum_partial(data)) == checksum(data)


def test_as_scapy_computes_it() -> None:
    seed = 3
    random_ = random.Random(seed)
    for _ in range(500):
        data = random_.randbytes(random_.randint(0, 1500))
        assert csum_fold(csum_partial(data)) == checksum(data), (seed, data)


def test_a_replacement_gives_the_sum_of_the_new_bytes() -> None:
    """Zero has two forms; which of them comes out RFC 1624 settles as the kernel does, so sums are compared."""
    seed = 4
    random_ = random.Random(seed)
    for _ in range(500):
        data = bytearray(random_.randbytes(2 * random_.randint(4, 100)))
        old, check = bytes(data[2:8]), csum_fold(csum_partial(bytes(data)))
        data[2:8] = new = random_.randbytes(6)
        assert csum_replace(check, old, new) == csum_fold(csum_partial(bytes(data))), (seed, old, new)


def test_only_words_can_be_replaced() -> None:
    for old, new in ((b"abc", b"abc"), (b"ab", b"abcd")):
        with pytest.raises(ValueError, match="must be an even number of bytes by as many"):
            csum_replace(0, old, new)
