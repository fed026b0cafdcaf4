# SPDX-License-Identifier: BSD-2-Clause
"""Capture files, in and out: pcap and pcapng, read and written with scapy.

scapy stops without a word where a file ends in the middle of a record; a run on half a capture would be a wrong answer,
so files are checked to be whole first.
"""

import io
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from scapy.error import Scapy_Exception
from scapy.utils import PcapNgWriter, RawPcapNgReader, RawPcapReader, RawPcapWriter

from hw.abi.registers import MAX_FRAME
from sim.traffic.pacing import MIN_FRAME

ETHERNET = 1  #: link type of Ethernet frames (LINKTYPE_ETHERNET)
MIN_CAPTURED = 14  #: an Ethernet header
PCAP_MAGIC = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
PCAPNG_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
SECOND = 1_000_000_000
SUFFIXES = (".pcap", ".pcapng")


class CaptureError(ValueError):
    """A capture file cannot be used; the message names the file and the reason."""


class Captured(NamedTuple):
    """One frame of a capture: when, and its bytes without FCS."""

    nanoseconds: int
    data: bytes


def read_capture(path: str | Path) -> list[Captured]:
    """All frames of a pcap or pcapng file, in the file's order.

    Frames of 14 to 59 bytes were captured at their sender, before padding: they are padded to 60 with zeros, as the
    sender does. Raises :class:`CaptureError` for a file that is missing, no capture, cut off, empty, not of Ethernet,
    or that holds frames which were cut when captured, or of under 14 or over 9,216 bytes.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CaptureError(f"Capture {str(path)!r} cannot be read: {error.strerror}") from error
    if not raw:
        raise CaptureError(f"Capture {str(path)!r} is empty: the file has no bytes")
    magic = raw[:4]
    try:
        if magic == PCAPNG_MAGIC:
            _check_pcapng(raw)
            records = _read_pcapng(raw)
        elif magic in PCAP_MAGIC:
            _check_pcap(raw, PCAP_MAGIC[magic])
            records = _read_pcap(raw, nano=magic in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d"))
        else:
            raise CaptureError(f"it begins with {magic.hex()!r}, which is neither pcap nor pcapng")
        frames = [_checked(number, *record) for number, record in enumerate(records, 1)]
    except (CaptureError, Scapy_Exception) as error:
        raise CaptureError(f"Capture {str(path)!r} cannot be used: {error}") from error
    if not frames:
        raise CaptureError(f"Capture {str(path)!r} is empty: it holds no frames")
    return frames


def check_name(path: Path) -> None:
    """Raise :class:`CaptureError` unless a file's name tells in which form to write it."""
    if path.suffix not in SUFFIXES:
        raise CaptureError(f"A capture's name must end in {' or '.join(SUFFIXES)}, not {str(path)!r}")


def write_capture(path: str | Path, frames: Iterable[Captured]) -> None:
    """Write frames as pcap (nanosecond times) or pcapng (microsecond times), by the file's suffix."""
    path = Path(path)
    check_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pcap":
        with RawPcapWriter(str(path), linktype=ETHERNET, nano=True) as pcap:
            pcap.write_header(b"")
            for nanoseconds, data in frames:
                seconds, rest = divmod(nanoseconds, SECOND)
                pcap.write_packet(data, sec=seconds, usec=rest)
        return
    with PcapNgWriter(str(path)) as pcapng:
        pcapng.linktype = ETHERNET
        pcapng.write_header(b"")
        for nanoseconds, data in frames:
            pcapng.write_packet(data, sec=Fraction(nanoseconds, SECOND), usec=0)


def _checked(number: int, nanoseconds: int, data: bytes, wire_length: int, link_type: int) -> Captured:
    if link_type != ETHERNET:
        raise CaptureError(f"frame {number} has link type {link_type}, and only Ethernet ({ETHERNET}) can be played")
    if wire_length > len(data):
        raise CaptureError(f"frame {number} was cut when captured: {len(data)} of its {wire_length} bytes are there")
    if not MIN_CAPTURED <= len(data) <= MAX_FRAME:
        raise CaptureError(f"frame {number} is {len(data)} bytes long, and {MIN_CAPTURED}..{MAX_FRAME} are allowed")
    return Captured(nanoseconds, data.ljust(MIN_FRAME, b"\0"))


def _read_pcap(raw: bytes, *, nano: bool) -> Iterable[tuple[int, bytes, int, int]]:
    reader = RawPcapReader(io.BytesIO(raw))
    for data, meta in reader:
        yield meta.sec * SECOND + meta.usec * (1 if nano else 1000), data, meta.wirelen, reader.linktype


def _read_pcapng(raw: bytes) -> Iterable[tuple[int, bytes, int, int]]:
    for data, meta in RawPcapNgReader(io.BytesIO(raw)):
        ticks = (meta.tshigh or 0) << 32 | (meta.tslow or 0)
        yield ticks * SECOND // meta.tsresol, data, meta.wirelen, meta.linktype


def _check_pcap(raw: bytes, order: str) -> None:
    at, number = 24, 0
    while at < len(raw):
        number += 1
        captured = struct.unpack_from(order + "I", raw, at + 8)[0] if at + 16 <= len(raw) else 0
        if at + 16 + captured > len(raw):
            raise CaptureError(f"the file ends inside frame {number}")
        at += 16 + captured
    if at > len(raw):
        raise CaptureError("the file ends inside its header")


def _check_pcapng(raw: bytes) -> None:
    at, number, order = 0, 0, "<"
    while at < len(raw):
        number += 1
        if at + 12 > len(raw):
            raise CaptureError(f"the file ends inside block {number}")
        if raw[at : at + 4] == PCAPNG_MAGIC:
            if raw[at + 8 : at + 12] not in PCAPNG_ORDER:
                raise CaptureError(f"block {number} is a section header without byte-order magic")
            order = PCAPNG_ORDER[raw[at + 8 : at + 12]]
        length = struct.unpack_from(order + "I", raw, at + 4)[0]
        if length < 12 or length % 4:
            raise CaptureError(f"block {number} gives its length as {length}, not a multiple of 4 of at least 12")
        if at + length > len(raw):
            raise CaptureError(f"the file ends inside block {number}")
        at += length
