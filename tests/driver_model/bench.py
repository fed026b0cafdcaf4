# SPDX-License-Identifier: BSD-2-Clause
"""A kernel with the driver on a fake device: what the driver's tests have in common."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from driver_model.cpu.profile import Profile
from driver_model.cpu.system import System
from driver_model.drivers.host import Host
from driver_model.drivers.nic import NicDriver
from driver_model.drivers.queue_config import QueueConfig
from driver_model.drivers.strategies import strategy
from driver_model.drivers.strategies.base import NO_OPTIONS, BufferStrategy, PooledStrategy
from driver_model.memory.dma.ownership import OwnershipChecker
from driver_model.memory.pages.page import PAGE_SIZE
from driver_model.memory.pages.zone import PAGE_ALLOC_COSTLY_ORDER, Zone
from driver_model.net.collector import Collector
from driver_model.net.skb.policy import SkbPolicy
from driver_model.net.xdp import XdpProgram
from driver_model.net.xdp_programs import program
from hw.abi.registers import MAX_FRAME
from tests.driver_model.fake_nic import FakeNic
from tests.driver_model.fake_platform import CYCLE_PS, FakePlatform

MEMORY = 8 << 20


def frames(count: int, seed: int, low: int = 60, high: int = 1514) -> list[bytes]:
    """Frames of random length and content, each different."""
    random_ = random.Random(seed)
    return [number.to_bytes(4, "little") + random_.randbytes(random_.randint(low, high) - 4) for number in range(count)]


BENCHES: list["Bench"] = []  #: of the test that runs: what they hold is freed when it ends


class Bench:
    """Cores, kernel, checker, driver and fake device. Memory is small, and all of it may be used: no watermarks. The
    strategy is one by name, or a class of a test's own.

    ``run(function)`` runs a function in a process on the first core until it returns, and judges all device accesses.
    """

    def __init__(
        self,
        strategy_name: str | type[BufferStrategy] = "page_pool",
        verdict: str | XdpProgram = "drop",
        *,
        cores: int = 1,
        queues: int = 1,
        checked: bool = True,
        memory: int = MEMORY,
        expected: Sequence[Sequence[bytes]] = (),
        consumer: Callable[..., None] | None = None,
        rss: bool = False,
        rules: int = 0,
        headers: Callable[[bytes], int] | None = None,
        offloads: bool = False,
        max_frame: int = MAX_FRAME,
        pools: int | None = None,
        pool_buffers: int = 256,
        page_size: int = PAGE_SIZE,
        min_free_kbytes: int | None = 0,
        pcp_order: int = PAGE_ALLOC_COSTLY_ORDER,
        profile: Profile | None = None,
        cache_seed: int = 0,
        dma_skip_sync: bool = False,
        skb_policy: SkbPolicy | None = None,
        **config: Any,
    ) -> None:
        self.platform = FakePlatform(memory, log=False)
        self.system = System(self.platform, profile or Profile.load("e5-1650v4"), cores, cache_seed=cache_seed)
        self.checker = OwnershipChecker(CYCLE_PS, device_log=True) if checked else None
        chosen = strategy_name
        if isinstance(chosen, str):
            chosen = strategy(chosen, config.get("pool", NO_OPTIONS))
        built: dict[str, Any] = {"rss": rss, "rules": rules, "headers": headers, "offloads": offloads}
        if pools is None:
            pools = queues if issubclass(chosen, PooledStrategy) else 0
        built |= {"pools": pools, "pool_buffers": pool_buffers}
        self.nic = FakeNic(self.platform, queues, access_log=checked, max_frame=max_frame, **built)
        self.nic.judge = self.settle
        zone = Zone(memory, page_size, pcp_order=pcp_order, min_free_kbytes=min_free_kbytes)
        self.host = Host(
            self.system.cores, checker=self.checker, zone=zone, dma_skip_sync=dma_skip_sync, skb_policy=skb_policy
        )
        self.collector = Collector(expected)
        run = program(verdict) if isinstance(verdict, str) else verdict
        self.driver = NicDriver(
            self.host,
            QueueConfig(
                chosen,
                run,
                consumer or self.collector,
                **config,
            ),
        )
        self.core = self.system.cores[0]
        BENCHES.append(self)

    def run(self, function: Callable[[], Any], limit: int = 10**12) -> Any:
        """Run a function in a process; fails if it does not return within ``limit`` picoseconds."""
        done: list[Any] = []

        def process() -> None:
            done.append(function())
            self.core.sync()
            self.platform.stop()

        self.core.spawn("test", process)
        assert self.platform.run(self.platform.now + limit), "the test's process did not end in time"
        self.settle()
        return done[0]

    def settle(self) -> None:
        """Let the checker judge what the device did."""
        if self.checker is not None and self.nic.accesses is not None:
            self.checker.device_accesses(self.platform.now // CYCLE_PS, self.nic.accesses)
            self.nic.accesses.clear()

    def wait(self, condition: Callable[[], object], what: str, limit: int = 10**10) -> None:
        """In a process: sleep until a condition holds."""
        deadline = self.core.time + limit
        while not condition():
            assert self.core.time < deadline, f"waited for {what}"
            self.core.sleep_until(self.core.time + 5 * 10**6)

    def start(self) -> None:
        """Probe and open, in a process."""
        self.driver.probe()
        self.driver.open()

    def total(self, name: str) -> int:
        """A statistic of the driver, summed over its queues."""
        return sum(getattr(queue.statistics, name) for queue in self.driver.queues)

    def finish(self) -> None:
        """Stop, in a process, and check that nothing is left."""
        self.driver.stop()
        self.nothing_left()

    def nothing_left(self) -> None:
        """No page in use, none mapped, no doorbell written to a queue that was not enabled."""
        assert self.driver.in_flight == 0
        self.host.drain()
        assert self.host.pages_in_use == 0
        assert not self.host.live_skbs
        assert self.nic.bad_doorbells == 0
        if self.checker is not None:
            self.checker.finish()
