# SPDX-License-Identifier: BSD-2-Clause
"""Completions that a sane device does not write."""

import pytest

from tests.driver_model.bench import Bench


@pytest.mark.parametrize("strategy", ["page_pool", "page_flip"])
def test_a_frame_that_never_ends_does_not_take_all_memory(strategy: str) -> None:
    bench = Bench(strategy, "pass", rx_entries=16)

    def run() -> None:
        bench.start()
        (queue,), (device,) = bench.driver.queues, bench.nic.queues
        most = -(-bench.driver.netdev.capabilities.max_frame // queue.strategy.buffer_length)
        for at in range(200):
            bench.nic.complete(device, at % 16, 60, end=False)
            bench.nic._schedule()
            bench.core.sleep_until(bench.core.time + 5 * 10**6)
            assert len(queue.rx._fragments) <= most
        bench.nic.complete(device, 200 % 16, 60)
        bench.nic._schedule()
        bench.wait(lambda: bench.total("rx_errors") == 1, "its end")
        assert bench.total("rx_length_errors") == 1
        bench.finish()

    bench.run(run)
