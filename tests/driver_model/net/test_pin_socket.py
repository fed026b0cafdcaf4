# SPDX-License-Identifier: BSD-2-Clause
"""A socket that nobody reads, and a stack without a protocol, behind the driver on a fake device."""

from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from driver_model.net.pin_socket import PinSocket
from driver_model.net.stack import NetStack
from tests.driver_model.bench import Bench

ATTACKER, OTHER = "10.1.0.0", "10.1.0.1"
COUNT = 40


def packets() -> list[bytes]:
    """Every fourth is the attacker's."""
    return [
        bytes(
            Ether(dst="02:00:00:00:00:00", src="02:00:00:00:00:01")
            / IP(src=OTHER if number % 4 else ATTACKER, dst="10.0.0.1")
            / UDP(sport=number, dport=9)
            / bytes(300)
        )
        for number in range(COUNT)
    ]


class Kit(Bench):
    """A bench with a stack behind it."""

    def __init__(self, strategy: str, handler: Any) -> None:
        super().__init__(strategy, "pass", consumer=self._take, rx_entries=64)
        self.handler = handler(self)
        self.stack = NetStack(self.host.softnets[0], self.handler)

    def _take(self, *frame: Any) -> None:
        self.stack(*frame)

    def receive(self) -> None:
        """All packets come."""
        self.start()
        self.nic.receive(0, packets())
        self.wait(lambda: self.total("rx_packets") == COUNT, "every packet")


@pytest.mark.parametrize("strategy", ["page_per_packet", "fragments", "copybreak", "page_pool", "hw_recycle"])
def test_packets_of_the_attacker_stay_until_the_end(strategy: str) -> None:
    kit = Kit(strategy, lambda kit: PinSocket(kit.core, 0x0A010000))

    def run() -> None:
        kit.receive()
        statistics = kit.handler.statistics
        assert statistics.as_dict() | {"pin_truesize": 0} == {
            "pin_held": COUNT // 4,
            "pin_truesize": 0,
            "pin_dropped": 0,
            "pin_others": COUNT * 3 // 4,
        }
        held = kit.host.live_skbs
        assert len(held) == COUNT // 4
        assert {skb.holder for skb in held} == {"pinning socket"}
        assert statistics.truesize == sum(skb.truesize for skb in held)
        kit.handler.close()
        assert not kit.host.live_skbs
        kit.finish()

    kit.run(run)


def test_no_more_is_kept_than_the_receive_buffer_has_room_for() -> None:
    kit = Kit("page_pool", lambda kit: PinSocket(kit.core, 0x0A010000, 3 * (4096 + 256) + 100))

    def run() -> None:
        kit.receive()
        statistics = kit.handler.statistics
        assert (statistics.held, statistics.dropped) == (3, COUNT // 4 - 3)
        kit.handler.close()
        kit.finish()

    kit.run(run)


@pytest.mark.parametrize("rcvbuf", [0, -1, True, 1.5])
def test_refused_receive_buffers(rcvbuf: Any) -> None:
    with pytest.raises(ValueError, match=f"rcvbuf must be an integer, 1 or more, not {rcvbuf!r}"):
        PinSocket(Bench().core, 1, rcvbuf)


def test_without_a_protocol_every_packet_is_dropped_where_protocols_begin() -> None:
    kit = Kit("page_pool", lambda kit: None)

    def run() -> None:
        kit.receive()
        assert (kit.stack.statistics.no_handler, kit.stack.statistics.delivered) == (COUNT, 0)
        assert not kit.core.op("net.ip_rcv").count
        kit.finish()

    kit.run(run)
