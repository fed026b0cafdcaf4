# SPDX-License-Identifier: BSD-2-Clause
"""A reader that reads no more than one packet in a time."""

from typing import Any

import pytest

from driver_model.net.local_socket import LocalSocket
from driver_model.net.stack import NetStack
from sim.traffic.flows import Flows
from tests.driver_model.bench import Bench

MICROSECOND = 10**6


@pytest.mark.parametrize("pace", [0, 10, 20])
def test_packets_are_read_at_the_readers_pace(pace: int) -> None:
    """Of 60 packets that come at once, by a reader that begins to be slow before they do."""
    read: list[int] = []
    made: list[Any] = []

    def take(*frame: Any) -> None:
        made[1](*frame)

    bench = Bench("page_pool", "pass", consumer=take)
    socket = LocalSocket(bench.host.pages[0], rcvbuf=1 << 30, deliver=lambda data: read.append(bench.core.time))
    made += [socket, NetStack(bench.host.softnets[0], socket)]

    def body() -> None:
        bench.start()
        socket.open()
        socket.pace = pace * MICROSECOND
        flows = Flows()
        bench.nic.receive(0, [flows.frame(0, 100, number) for number in range(60)])
        bench.wait(lambda: len(read) == 60, "every packet to be read")
        assert not socket.rmem_alloc
        socket.close()
        bench.finish()

    bench.run(body)
    took = (read[-1] - read[0]) / MICROSECOND
    if pace:
        assert took == pytest.approx(59 * pace, rel=0.02), "a late one is made up for"
    else:
        assert took < 59 * 2
