# SPDX-License-Identifier: BSD-2-Clause
import struct

import pytest
from scapy.utils import rdpcap

from sim.traffic.capture import Captured, CaptureError, read_capture, write_capture

FRAMES = [Captured(1_500_000_000_000_001_000 + n * 2_000, bytes([n]) * (60 + 7 * n)) for n in range(9)]


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_what_is_written_reads_back(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write_capture(path, FRAMES)
    assert read_capture(path) == FRAMES
    packets = rdpcap(str(path))
    assert [bytes(packet) for packet in packets] == [frame.data for frame in FRAMES]


def test_pcap_keeps_nanoseconds(tmp_path):
    write_capture(tmp_path / "a.pcap", [Captured(1_000_000_007, bytes(60))])
    assert read_capture(tmp_path / "a.pcap")[0].nanoseconds == 1_000_000_007


@pytest.mark.parametrize(("order", "unit"), [("<", 1000), (">", 1000)])
def test_microsecond_captures_of_both_byte_orders(tmp_path, order, unit):
    path = tmp_path / "a.pcap"
    header = struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(header + struct.pack(order + "IIII", 3, 5, 60, 60) + bytes(60))
    assert read_capture(path) == [Captured(3_000_000_000 + 5 * unit, bytes(60))]


def test_short_frames_are_padded_as_a_sender_does(tmp_path):
    write_capture(tmp_path / "a.pcap", [Captured(0, b"\xaa" * 14), Captured(1, b"\xbb" * 59), Captured(2, bytes(9216))])
    first, second, third = read_capture(tmp_path / "a.pcap")
    assert first.data == b"\xaa" * 14 + bytes(46)
    assert second.data == b"\xbb" * 59 + b"\0"
    assert len(third.data) == 9216


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_every_cut_is_noticed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_capture(path, FRAMES[:2])
    whole = path.read_bytes()
    boundaries = set()
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        try:
            boundaries.add(len(read_capture(path)))
        except CaptureError as error:
            assert str(path) in str(error), f"cut after {end} bytes"
    assert boundaries == {1}  # only a cut between two frames leaves a capture, a shorter one


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
@pytest.mark.parametrize("length", [13, 9217])
def test_frames_out_of_bounds(tmp_path, suffix, length):
    path = tmp_path / f"a{suffix}"
    write_capture(path, [FRAMES[0], Captured(0, bytes(length))])
    with pytest.raises(CaptureError, match=f"frame 2 is {length} bytes long, and 14..9216 are allowed"):
        read_capture(path)


def test_missing(tmp_path):
    with pytest.raises(CaptureError, match=r"none\.pcap' cannot be read: No such file"):
        read_capture(tmp_path / "none.pcap")


def test_without_bytes_or_frames(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(b"")
    with pytest.raises(CaptureError, match="is empty: the file has no bytes"):
        read_capture(path)
    write_capture(path, [])
    with pytest.raises(CaptureError, match="is empty: it holds no frames"):
        read_capture(path)


def test_no_capture_at_all(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(CaptureError, match="neither pcap nor pcapng"):
        read_capture(path)


def test_frames_cut_by_the_capturer_and_other_links(tmp_path):
    path = tmp_path / "a.pcap"
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 64, 1) + struct.pack("<IIII", 0, 0, 64, 1514) + bytes(64)
    )
    with pytest.raises(CaptureError, match="frame 1 was cut when captured: 64 of its 1514 bytes"):
        read_capture(path)
    path.write_bytes(
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 64, 101) + struct.pack("<IIII", 0, 0, 64, 64) + bytes(64)
    )
    with pytest.raises(CaptureError, match="frame 1 has link type 101"):
        read_capture(path)


def test_unknown_suffix(tmp_path):
    with pytest.raises(CaptureError, match=r"must end in \.pcap or \.pcapng"):
        write_capture(tmp_path / "a.cap", FRAMES)
