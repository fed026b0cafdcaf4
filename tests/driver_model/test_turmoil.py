# SPDX-License-Identifier: BSD-2-Clause
"""Traffic, errors of the device and queues that stop, in random order: nothing is left, touched too late, or mapped."""

import random
from typing import Any

import pytest

from driver_model.drivers.strategies import STRATEGIES
from driver_model.net.forward import IpForward
from driver_model.net.local_socket import LocalSocket
from driver_model.net.skb.policy import POLICY_2016, Delay, Head, Place, SkbPolicy
from driver_model.net.stack import Handler
from hw.abi.rings import CompletionError, QueueError, QueueState
from sim.traffic.flows import Flows
from tests.driver_model.noncoherent_kit import noncoherent_profile
from tests.driver_model.stack_bench import MS, StackBench

FLOWS = Flows(2, 2, seed=3)
SIZES = (60, 60, 300, 1514, 4000, 9000)
POLICIES = (
    SkbPolicy(),
    POLICY_2016,
    SkbPolicy(place=Place.HEADROOM),
    SkbPolicy(delay=Delay.RCU, bulk_heads=True),
    SkbPolicy(head=Head.COPY),
)
PAUSES = (10**6, 10**7, 10**8, 10**9)


class Turmoil:
    """A bench of random make, and what happens to it. Completions that the device makes up name buffers that are not
    posted."""

    def __init__(self, strategy: str, seed: int) -> None:
        self.random = random_ = random.Random(f"{strategy} {seed}")
        self.holds = random_.random() < 0.3
        profile = noncoherent_profile() if strategy != "bypass" and random_.random() < 0.5 else None
        self.bench = StackBench(
            strategy,
            self._handler,
            verdict=random_.choice(["pass", "pass", "pass", "tx", "redirect", "drop"]),
            cores=random_.choice([1, 2]),
            queues=2,
            rx_entries=random_.choice([8, 16, 64]),
            tx_entries=random_.choice([8, 16, 64]),
            skb_policy=random_.choice(POLICIES),
            limit=random_.choice([3, 100]),
            profile=profile,
            cache_seed=seed,
        )

    def _handler(self, bench: StackBench, core: int) -> Handler:
        if self.holds:
            return LocalSocket(bench.host.pages[core], hold=MS // 10, stream=True, rcvbuf=1 << 16)
        return IpForward(bench.routes[core])

    def run(self) -> None:
        """In a process: open, let things happen, close; nothing is left."""
        bench, random_ = self.bench, self.random
        bench.start()
        for _ in range(random_.randint(3, 10)):
            random_.choices([self._frames, self._error, self._refuse, self._lie, self._stop], [6, 1, 1, 1, 1])[0]()
            bench.core.sleep_until(bench.core.time + random_.choice(PAUSES))
        bench._on_each(lambda handler: handler.close(), "close")
        random_.choice([bench.driver.stop, bench.driver.reset])()
        bench.core.sleep_until(bench.core.time + 10 * MS)
        bench.nic.bad_doorbells = 0  # of who did not know yet of an error
        bench.nothing_left()

    def _queue(self) -> Any:
        return self.random.choice(self.bench.nic.queues)

    def _frames(self) -> None:
        queue, count = self.random.randrange(2), self.random.randint(1, 60)
        self.bench.nic.receive(queue, [FLOWS.frame(queue, self.random.choice(SIZES), at) for at in range(count)])

    def _error(self) -> None:
        index, direction = self.random.randrange(2), self.random.choice(["rx", "tx"])
        if getattr(self.bench.nic.queues[index], direction) is QueueState.ENABLED:
            self.bench.nic.fail(index, direction, QueueError.RING_READ)

    def _refuse(self) -> None:
        self._queue().tx_error = self.random.choice([CompletionError.NONE, CompletionError.READ_FAULT])

    def _lie(self) -> None:
        queue = self._queue()
        if queue.rx is QueueState.ENABLED:
            self.bench.nic.complete(queue, 65535, self.random.choice([0, 60]), end=self.random.random() < 0.5)

    def _stop(self) -> None:
        queue = self.random.choice(self.bench.driver.queues)
        if not queue.closed:
            self.bench.driver.stop_queue(queue.index)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_left_whatever_happens(strategy: str, seed: int) -> None:
    print(f"seed {seed}")
    turmoil = Turmoil(strategy, seed)
    turmoil.bench.run(turmoil.run)
