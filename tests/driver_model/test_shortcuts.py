# SPDX-License-Identifier: BSD-2-Clause
"""The memory shortcuts of a core in the whole driver: without them, everything happens at the same picosecond."""

import random
from typing import Any

import pytest

from driver_model.cpu.core import Core
from tests.driver_model.bench import Bench, frames


def behaviour(strategy: str, verdict: str, seed: int) -> list[Any]:
    """What the device sees of two cores under bursts, when; and how the cores spent their time."""
    rng = random.Random(seed)
    bench = Bench(strategy, verdict, cores=2, queues=2, rx_entries=64, tx_entries=64, consumer=give_back)
    writes: list[tuple[int, int, int]] = []
    device_write = bench.nic.platform.on_write

    def on_write(offset: int, value: int) -> None:
        writes.append((bench.platform.now, offset, value))
        device_write(offset, value)

    bench.platform.on_write = on_write
    traffic = frames(600, seed)

    def main() -> None:
        bench.start()
        for start in range(0, len(traffic), 30):
            for queue in (0, 1):
                bench.nic.receive(queue, traffic[start + 15 * queue : start + 15 * queue + 15])
            bench.core.sleep_until(bench.core.time + rng.randrange(1, 3000) * 1000)
        bench.wait(lambda: bench.total("rx_packets") == len(traffic), "every frame")
        bench.finish()

    bench.run(main)
    times = [(core.time, core.idle_ps, core.hardirq_ps, core.softirq.busy_ps) for core in bench.system.cores]
    return [writes, times, bench.system.operations(), [queue.sent for queue in bench.nic.queues]]


def give_back(queue: Any, fragments: Any, metadata: Any) -> None:
    """A consumer that looks at nothing."""
    for buffer, _, _ in fragments:
        queue.release(buffer)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("strategy", "verdict"), [("page_pool", "drop"), ("page_pool", "tx"), ("page_per_packet", "tx")]
)
def test_shortcuts_change_nothing(strategy: str, verdict: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = behaviour(strategy, verdict, seed)
    monkeypatch.setattr(Core, "load_latched", lambda core, address, length, ready: core.load(address, length))
    monkeypatch.setattr(Core, "load_owned", Core.load)
    monkeypatch.setattr(Core, "store_owned", Core.store)
    slow = behaviour(strategy, verdict, seed)
    assert fast == slow, f"seed {seed}"
    assert len(fast[0]) > 50
