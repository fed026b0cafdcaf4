# SPDX-License-Identifier: BSD-2-Clause
"""Requests for offloads: what the descriptors say, what the driver does to the frame, and what is refused."""

import errno
import random
from collections.abc import Sequence
from typing import Any

import pytest
from scapy.utils import checksum

from driver_model.drivers.features import Capabilities, Feature, NetDevice
from driver_model.drivers.offload import GsoType, TxRequest, csum_replace_by_diff
from hw.abi.codec import Codec
from hw.abi.rings import CompletionError, TxDescriptor
from tests.driver_model.bench import Bench
from tests.driver_model.fake_nic import FakeNic

CODEC = Codec(TxDescriptor)
ALL = Capabilities(queues=1, max_frame=9216, max_descriptors=32, classify=True, tx_offload=True, segmentation=True)
NOTHING = Capabilities(queues=1, max_frame=9216)
TCP4 = {"csum_start": 34, "csum_offset": 16, "gso_type": GsoType.TCPV4, "gso_size": 1000, "tcp_hdrlen": 20}
TCP6 = TCP4 | {"csum_start": 54, "gso_type": GsoType.TCPV6}


def refusal(request: TxRequest, lengths: Sequence[int], device: NetDevice | None = None) -> int | None:
    try:
        request.check(device or NetDevice(ALL), lengths)
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize(
    ("fields", "lengths", "error"),
    [
        ({"csum_start": 34, "csum_offset": 6}, [60], None),
        ({"csum_start": 34, "csum_offset": 24}, [60], None),
        ({"csum_start": 34, "csum_offset": 25}, [60], errno.EINVAL),
        ({"csum_start": 34, "csum_offset": 25}, [60, 1], None),
        ({"csum_start": 255, "csum_offset": 63}, [400], None),
        ({"csum_start": 256, "csum_offset": 6}, [400], errno.EINVAL),
        ({"csum_start": -1, "csum_offset": 6}, [400], errno.EINVAL),
        ({"csum_start": 34, "csum_offset": 64}, [400], errno.EINVAL),
        ({}, [9216], None),
        ({}, [9217], errno.EMSGSIZE),
        ({}, [9000, 217], errno.EMSGSIZE),
        ({}, [14], None),
        ({}, [13], errno.EINVAL),
        ({}, [60, 0], errno.EINVAL),
        ({}, [], errno.EINVAL),
        ({}, [10] * 32, None),
        ({}, [10] * 33, errno.EMSGSIZE),
        ({"vlan_tci": 1}, [9216], None),
        ({"vlan_tci": 1}, [9217], errno.EMSGSIZE),
        ({"vlan_tci": 1}, [13], errno.EINVAL),
        ({"vlan_tci": 1}, [10] * 31, None),
        ({"vlan_tci": 1}, [10] * 32, errno.EMSGSIZE),
        ({"csum_start": 34, "csum_offset": 6}, [9217], errno.EMSGSIZE),
        ({"csum_start": 34, "csum_offset": 6}, [10] * 32, None),
        (TCP4, [54] + [100] * 30, None),
        (TCP4, [54] + [100] * 31, errno.EMSGSIZE),
        ({"vlan_tci": 0xFFFF}, [60], None),
        ({"vlan_tci": 0x10000}, [60], errno.EINVAL),
        (TCP4, [3000], None),
        (TCP4, [54, 3000], None),
        (TCP4, [53, 3001], errno.EINVAL),
        (TCP4, [54], errno.EINVAL),
        (TCP4, [65535], None),
        (TCP4, [30000, 35536], errno.EMSGSIZE),
        (TCP4 | {"gso_size": 0}, [3000], errno.EINVAL),
        (TCP4 | {"gso_size": 9216 - 54}, [3000], None),
        (TCP4 | {"gso_size": 9216 - 53}, [3000], errno.EMSGSIZE),
        (TCP4 | {"csum_offset": 6}, [3000], errno.EINVAL),
        (TCP4 | {"csum_start": None}, [3000], errno.EINVAL),
        (TCP4 | {"csum_start": 36}, [3000], errno.EINVAL),
        (TCP4 | {"csum_start": 94, "tcp_hdrlen": 60, "network_offset": 34}, [3000], None),
        (TCP4 | {"csum_start": 98, "network_offset": 34}, [3000], errno.EINVAL),
        (TCP4 | {"tcp_hdrlen": 64}, [3000], errno.EINVAL),
        (TCP4 | {"network_offset": 15, "csum_start": 35}, [3000], errno.EINVAL),
        (TCP4 | {"network_offset": 12, "csum_start": 32}, [3000], errno.EINVAL),
        (TCP4 | {"network_offset": 216, "csum_start": 236}, [3000], None),
        (TCP4 | {"network_offset": 218, "csum_start": 238}, [3000], errno.EINVAL),
        (TCP6, [3000], None),
        (TCP6 | {"csum_start": 34}, [3000], errno.EINVAL),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], lengths: list[int], error: int | None) -> None:
    assert refusal(TxRequest(**fields), lengths) == error


@pytest.mark.parametrize(
    ("fields", "feature", "name"),
    [
        ({"csum_start": 34, "csum_offset": 6}, Feature.HW_CSUM, "tx-checksum-ip-generic"),
        ({"vlan_tci": 5}, Feature.HW_VLAN_CTAG_TX, "tx-vlan-hw-insert"),
        (TCP4, Feature.TSO, "tx-tcp-segmentation"),
        (TCP6, Feature.TSO6, "tx-tcp6-segmentation"),
    ],
)
def test_what_is_off_or_not_there_is_refused(fields: dict[str, Any], feature: Feature, name: str) -> None:
    request, device = TxRequest(**fields), NetDevice(ALL)
    assert refusal(request, [3000], device) is None
    device.set_features(device.features & ~feature)
    with pytest.raises(OSError, match=f"The device has {name} switched off") as off:
        request.check(device, [3000])
    with pytest.raises(OSError, match=f"The device does not have .*{name}") as missing:
        request.check(NetDevice(NOTHING), [3000])
    assert off.value.errno == missing.value.errno == errno.EOPNOTSUPP


def test_the_pseudo_headers_sum_loses_its_length() -> None:
    rng = random.Random(1)
    for _ in range(500):
        head, length = rng.randbytes(10), rng.randrange(20, 65535)
        with_length = 0xFFFF ^ checksum(head + length.to_bytes(2, "big"))
        without = int.from_bytes(csum_replace_by_diff(with_length.to_bytes(2, "big"), length))
        assert without % 0xFFFF == (0xFFFF ^ checksum(head)) % 0xFFFF


class Sender:
    """Sends each frame that passes with the next request."""

    def __init__(self, requests: list[TxRequest]) -> None:
        self.requests = requests
        self.outcomes: list[Any] = []

    def __call__(self, queue: Any, fragments: Any, metadata: Any) -> None:
        pieces = [(buffer, length) for buffer, _, length in fragments]
        try:
            self.outcomes.append(queue.xmit(pieces, self.requests.pop(0)))
        except OSError as error:
            self.outcomes.append(error.errno)
            for buffer, _ in pieces:
                queue.release(buffer)


def send(
    requests: list[TxRequest], frames: list[bytes], name: str = "page_pool", **config: Any
) -> tuple[Bench, Sender]:
    sender = Sender(list(requests))
    bench = Bench(name, "pass", consumer=sender, offloads=True, rx_entries=64, **config)

    def run() -> None:
        bench.start()
        bench.nic.receive(0, frames)
        bench.wait(lambda: len(sender.outcomes) == len(frames), "every frame")
        bench.finish()

    bench.run(run)
    return bench, sender


def asked(control: int) -> dict[str, Any]:
    """Fields of a data descriptor's control word."""
    entry = CODEC.unpack(bytes(12) + control.to_bytes(4, "little"))
    flags = ("insert_ip_checksum", "insert_l4_checksum", "insert_vlan", "segment")
    found = {name for name in flags if entry.flags & CODEC.mask("flags", name)}
    return {"flags": found, "start": entry.checksum_start, "offset": entry.checksum_offset}


@pytest.mark.parametrize("name", ["page_pool", "page_per_packet"])
def test_what_descriptors_say(name: str) -> None:
    rng = random.Random(4)
    frames = [rng.randbytes(length) for length in (60, 70, 80, 1500, 8000, 300)]
    requests = [
        TxRequest(),
        TxRequest(csum_start=34, csum_offset=6),
        TxRequest(csum_start=54, csum_offset=16, vlan_tci=0xABCD),
        TxRequest(**TCP4),
        TxRequest(**TCP6, vlan_tci=7),
        TxRequest(csum_start=34, csum_offset=6),
    ]
    bench, sender = send(requests, frames, name)
    assert sender.outcomes == [True] * 6
    queue = bench.nic.queues[0]
    lengths = [None if context is None else context.l2_length for context, _ in queue.asked]
    assert lengths == [None, None, 0, 14, 14, None], "only where it is needed"
    said = [asked(control) for _, control in queue.asked]
    l4 = {"insert_l4_checksum"}
    assert said == [
        {"flags": set(), "start": 0, "offset": 0},
        {"flags": l4, "start": 34, "offset": 6},
        {"flags": l4 | {"insert_vlan"}, "start": 54, "offset": 16},
        {"flags": {"segment", "insert_ip_checksum"}, "start": 0, "offset": 0},
        {"flags": {"segment", "insert_vlan"}, "start": 0, "offset": 0},
        {"flags": l4, "start": 34, "offset": 6},
    ]
    contexts: list[Any] = [context for context, _ in queue.asked if context is not None]
    assert [context.vlan for context in contexts] == [0xABCD, 0, 7]
    assert [(c.mss, c.l3_length, c.l4_length) for c in contexts[1:]] == [(1000, 20, 20), (1000, 40, 20)]
    for at, (sent, frame) in enumerate(zip(queue.sent, frames, strict=True)):
        if requests[at].gso_type is None:
            assert sent == frame
        else:
            start = requests[at].csum_start
            assert start is not None
            place = slice(start + 16, start + 18)
            assert sent[place] == csum_replace_by_diff(frame[place], len(frame) - start)
            assert sent[: place.start] + sent[place.stop :] == frame[: place.start] + frame[place.stop :]
    counters = ("tx_packets", "tx_csum_partial", "tx_added_vlan_packets", "tx_tso_packets", "tx_tso_bytes")
    assert [bench.total(name) for name in counters] == [6, 5, 2, 2, 1500 - 54 + 8000 - 74]


def test_segments_are_no_longer_than_the_device_was_built_for() -> None:
    fits, too_long = TCP4 | {"gso_size": 1514 - 54}, TCP4 | {"gso_size": 1514 - 53}
    bench, sender = send([TxRequest(**fits), TxRequest(**too_long)], [bytes(1510)] * 2, max_frame=1514)
    assert sender.outcomes == [True, errno.EMSGSIZE]
    assert bench.driver.netdev.capabilities.max_frame == 1514


def test_a_refused_frame_stays_its_senders_and_an_impossible_one_reaches_no_ring() -> None:
    requests = [TxRequest(csum_start=300), TxRequest(vlan_tci=-1), TxRequest(vlan_tci=1)]
    bench, sender = send(requests, [bytes([number]) * 60 for number in range(3)])
    assert sender.outcomes == [errno.EINVAL, errno.EINVAL, True]
    assert bench.nic.queues[0].sent == [b"\2" * 60]
    assert bench.total("tx_dropped") == 0


def test_contexts_need_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeNic, "_send", lambda self, queue: None)
    bench, sender = send([TxRequest(vlan_tci=1)] * 6, [bytes(60)] * 6, tx_entries=8)
    assert sender.outcomes == [True] * 4 + [False] * 2
    assert bench.total("tx_dropped") == 2
    assert bench.total("tx_aborted") == bench.total("tx_added_vlan_packets") == 4


def test_what_the_device_refuses_all_the_same_is_counted() -> None:
    sender = Sender([TxRequest(vlan_tci=1)])
    bench = Bench("page_pool", "pass", consumer=sender, offloads=True, rx_entries=64)

    def run() -> None:
        bench.start()
        bench.nic.queues[0].tx_error = CompletionError.OFFLOAD
        bench.nic.receive(0, [bytes(60)])
        bench.wait(lambda: bench.total("tx_errors") == 1, "the error")
        bench.finish()

    bench.run(run)
    assert bench.total("tx_offload_errors") == 1
    assert bench.total("tx_packets") == 0
