# SPDX-License-Identifier: BSD-2-Clause
"""The whole driver on the cores of every machine that there is a cost profile of."""

import pytest

from driver_model.cpu.profile import Profile
from tests.driver_model.bench import Bench, frames

COUNT = 300


@pytest.mark.parametrize("strategy", ["page_pool", "page_per_packet"])
@pytest.mark.parametrize("name", Profile.names())
def test_the_driver_sends_what_it_receives(name: str, strategy: str) -> None:
    profile = Profile.load(name)
    sent = frames(COUNT, seed=7)
    bench = Bench(strategy, "tx", profile=profile)

    def echo() -> int:
        bench.start()
        bench.nic.receive(0, sent)
        bench.wait(lambda: bench.total("tx_packets") == COUNT, "the frames to be sent back")
        busy = bench.core.softirq.busy_ps
        bench.finish()
        return busy

    busy = bench.run(echo)
    assert bench.nic.queues[0].sent == sent
    assert busy / COUNT > profile.ps("rx.descriptor") + profile.ps("tx.descriptor")
