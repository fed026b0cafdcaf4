# SPDX-License-Identifier: BSD-2-Clause
"""The Internet checksum, of bytes in network order (``lib/checksum.c``; RFC 1071, RFC 1624)."""


def csum_fold(total: int) -> int:
    """A sum of 16-bit words, folded into one, and complemented."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def csum_partial(data: bytes) -> int:
    """Sum of the 16-bit words of some bytes, folded into one; an odd last one is a word's high half."""
    if len(data) % 2:
        data += b"\0"
    # 2**16 is 1 modulo 2**16 - 1, so the number that they are in all is their sum; of not all zeros that is not 0.
    value = int.from_bytes(data)
    return value % 0xFFFF or (0xFFFF if value else 0)


def csum_replace(check: int, old: bytes, new: bytes) -> int:
    """``csum_replace2`` and ``_replace4``: a checksum after some of the bytes that it sums were replaced (RFC 1624,
    equation 3). Both have an even number of bytes."""
    if len(old) != len(new) or len(old) % 2:
        raise ValueError(f"Replaced must be an even number of bytes by as many, not {len(old)} by {len(new)}")
    complement = bytes(~byte & 0xFF for byte in old)
    return csum_fold((~check & 0xFFFF) + csum_partial(complement) + csum_partial(new))
