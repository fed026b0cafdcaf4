# SPDX-License-Identifier: BSD-2-Clause
"""A bench whose driver recycles buffers in the NIC."""

from typing import Any

from driver_model.drivers.strategies.hw_recycle import HwRecycle
from hw.abi.pools import IDS_PER_RETURN
from tests.driver_model.bench import Bench, frames
from tests.driver_model.fake_pools import FakePool

SIZE = 64


class Kit(Bench):
    """A bench with a pool of :data:`SIZE` buffers for each queue; frames that pass are kept in ``kept``."""

    def __init__(self, verdict: str = "drop", **given: Any) -> None:
        self.kept: list[Any] = []
        defaults = {"consumer": self._keep, "pool_size": SIZE, "rx_entries": 128, "tx_entries": 128}
        super().__init__("hw_recycle", verdict, **(defaults | given))

    def _keep(self, queue: Any, fragments: Any, metadata: Any) -> None:
        self.kept += [buffer for buffer, _, _ in fragments]

    @property
    def strategy(self) -> HwRecycle:
        """The first queue's."""
        strategy = self.driver.queues[0].strategy
        assert isinstance(strategy, HwRecycle)
        return strategy

    @property
    def pool(self) -> FakePool:
        """The first, from the device's side."""
        return self.nic.pools[0]

    def receive(self, count: int, seed: int = 0, **size: int) -> list[bytes]:
        """So many frames come, and are handled."""
        before, sent = self.total("rx_completed"), frames(count, seed, **size)
        self.nic.receive(0, sent)
        self.wait(lambda: self.total("rx_completed") == before + count, "every frame")
        return sent

    def release(self, count: int | None = None) -> None:
        """The consumer gives back what it kept."""
        for _ in range(len(self.kept) if count is None else count):
            self.driver.queues[0].release(self.kept.pop(0))

    def conserved(self) -> None:
        """Every buffer is the device's, free, but for less than a register's worth."""
        pool = self.strategy.pool
        assert pool is not None
        self.wait(lambda: len(self.pool.free) == SIZE - pool.waiting, "every buffer to come back")
        assert pool.waiting < IDS_PER_RETURN
        pool.flush()
        self.wait(lambda: len(self.pool.free) == SIZE, "every buffer to come back")
        assert sorted(self.pool.free) == list(range(SIZE))
        assert self.pool.refused == 0
        assert not self.pool.out
