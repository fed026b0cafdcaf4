# SPDX-License-Identifier: BSD-2-Clause
"""A process that reads datagrams as fast as it can, ``udp_sink``."""

from collections.abc import Mapping
from fractions import Fraction

from driver_model.cpu.profile import Profile
from driver_model.net.local_socket import LocalSocket
from sim.traffic.flows import Flows
from tests.driver_model.calibration.flood import FRAME_BYTES
from tests.driver_model.calibration.loop import Replay
from tests.driver_model.calibration.stack import UNRECYCLED, stack_bench
from tests.driver_model.stack_bench import MS, StackBench

LINES = 6  #: of packet, sk_buff and socket
PACKETS, WARM_UP = 2048, 1024


def recvfrom(profile: Profile) -> Fraction:
    """All packets wait when the process begins to read. As a socket here is of its stack's core, nothing comes from
    the core that ran the softirqs there: what does is charged by itself."""
    times: list[int] = []

    def read(data: bytes) -> None:
        bench.core.spend(bench.core.line_transfer, LINES)
        times.append(bench.core.time)

    def handler(bench: StackBench, core: int) -> LocalSocket:
        return LocalSocket(bench.host.pages[core], hold=5 * MS, rcvbuf=1 << 30, deliver=read)

    bench = stack_bench(handler, profile=profile, pool=UNRECYCLED)

    def body() -> None:
        bench.start()
        bench.nic.receive(0, [Flows(1, 1, 1).frame(0, FRAME_BYTES, 0)] * PACKETS)
        bench.core.sleep_until(bench.core.time + 20 * MS)
        bench.close()

    bench.run(body)
    assert len(times) == PACKETS
    return Fraction(times[-1] - times[WARM_UP - 1], PACKETS - WARM_UP)


REPLAYS: Mapping[str, Replay] = {"UDP sink, recvfrom": recvfrom}
