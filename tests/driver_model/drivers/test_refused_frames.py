# SPDX-License-Identifier: BSD-2-Clause
"""Frames that the device refuses to send: what the driver counts, and what the device."""

import pytest

from hw.abi.rings import CompletionError
from tests.driver_model.bench import Bench, frames


def test_frames_that_the_device_refuses_to_send() -> None:
    bench = Bench("page_pool", "tx", rx_entries=16)

    def run() -> None:
        bench.start()
        bench.nic.queues[0].tx_error = CompletionError.READ_FAULT
        bench.nic.receive(0, frames(1, 0))
        bench.wait(lambda: bench.total("tx_errors") == 1, "the error")
        bench.finish()

    bench.run(run)
    assert bench.total("tx_packets") == 0
    assert bench.total("tx_bytes") == 0


@pytest.mark.parametrize("error", [CompletionError.READ_FAULT, CompletionError.FRAME_LENGTH, CompletionError.OFFLOAD])
def test_the_device_counts_the_frames_that_it_refused_without_a_report(error: CompletionError) -> None:
    bench = Bench("page_pool", "tx", queues=2, rx_entries=16)

    def run() -> dict[str, int]:
        bench.start()
        for queue in bench.nic.queues:
            queue.tx_error = error
        bench.nic.receive(0, frames(3, 0))
        bench.nic.receive(1, frames(2, 1))
        bench.wait(lambda: bench.total("tx_packets") + bench.total("tx_errors") == 5, "all completions")
        counters = bench.driver.counters()
        bench.finish()
        return counters

    counters = bench.run(run)
    assert bench.total("tx_errors") < 5, "a batch asks for one completion, at its end"
    assert counters["tx_errors"] == 5
