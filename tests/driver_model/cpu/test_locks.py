# SPDX-License-Identifier: BSD-2-Clause
"""Shared cache lines and spin locks: who pays for the way, and who goes first."""

import random
from functools import partial
from itertools import pairwise

import pytest

from driver_model.cpu.core import Core
from driver_model.cpu.lines import CacheLine, Shared
from driver_model.cpu.locks import SpinLock
from driver_model.cpu.system import System
from tests.driver_model.cpu.machine import FREE, MS, NS, US, run, unit_profile
from tests.driver_model.fake_platform import FakePlatform


def machine(cores: int, **changes: int) -> tuple[FakePlatform, list[Core]]:
    platform = FakePlatform()
    return platform, System(platform, unit_profile(FREE | changes), cores).cores


def test_a_line_pays_only_for_its_way_between_cores() -> None:
    platform, (one, two) = machine(2, **{"line.transfer": 30})
    line = CacheLine("counter")
    log: list[tuple[str, int]] = []

    def first() -> None:
        for access in (line.write, line.write, line.read):
            access(one)
        log.append(("own", one.time))
        one.sleep_until(10 * US)
        line.read(one)
        log.append(("modified elsewhere", one.time))
        line.read(one)
        log.append(("shared", one.time))
        line.write(one)
        log.append(("upgrade", one.time))

    def second() -> None:
        two.sleep_until(5 * US)
        line.write(two)
        log.append(("taken", two.time))

    one.spawn("first", first)
    two.spawn("second", second)
    platform.run(1 * MS)
    assert log == [
        ("own", 0),
        ("taken", 5 * US + 30 * NS),
        ("modified elsewhere", 10 * US + 30 * NS),
        ("shared", 10 * US + 30 * NS),
        ("upgrade", 10 * US + 60 * NS),
    ]
    assert line.transfers == 3


def test_transfers_of_one_line_queue() -> None:
    platform, cores = machine(4, **{"line.transfer": 30})
    line = CacheLine("hot")
    times: list[int] = []

    def body(core: Core) -> None:
        line.write(core)
        times.append(core.time)

    for core in cores:
        core.spawn("body", lambda core=core: body(core))
    platform.run(1 * MS)
    assert times == [0, 30 * NS, 60 * NS, 90 * NS]


def test_shared_variables_are_seen_in_the_order_of_time() -> None:
    platform, (one, two) = machine(2)
    flag = Shared(CacheLine("flag"), 0)
    seen: list[tuple[int, int]] = []

    def writer() -> None:
        one.spend(one.op("work"), 3)
        flag.store(one, 1)

    def reader() -> None:
        for _ in range(4):
            two.spend(two.op("work"))
            seen.append((two.time // US, flag.load(two)))

    one.spawn("writer", writer)
    two.spawn("reader", reader)
    platform.run(1 * MS)
    assert seen == [(1, 0), (2, 0), (3, 1), (4, 1)]


def test_a_lock_goes_to_cores_in_the_order_in_which_they_came() -> None:
    platform, cores = machine(3, **{"line.transfer": 30, "spin.lock": 8, "spin.unlock": 2})
    lock = SpinLock("ring")
    log: list[tuple[int, int]] = []

    def body(core: Core, arrives: int) -> None:
        core.sleep_until(arrives)
        with lock.held(core):
            log.append((core.index, core.time))
            core.spend(core.op("work"))

    for core, arrives in zip(cores, (100 * NS, 300 * NS, 200 * NS)):
        core.spawn("body", lambda core=core, arrives=arrives: body(core, arrives))
    platform.run(1 * MS)
    held = 1000 + 2  # work and unlock
    first = 100 + 8
    second = first + held + 30
    third = second + held + 30
    assert log == [(0, first * NS), (2, second * NS), (1, third * NS)]
    assert lock.contended == 2
    assert lock.holder is None


def test_a_lock_that_is_given_back_while_it_is_taken_costs_no_less() -> None:
    platform, (one, two) = machine(2, **{"spin.lock": 8})
    lock = SpinLock("ring")
    log: list[tuple[int, int]] = []

    def body(core: Core, arrives: int) -> None:
        core.sleep_until(arrives)
        with lock.held(core):
            log.append((core.index, core.time))

    one.spawn("holder", lambda: body(one, 100 * NS))
    two.spawn("next", lambda: body(two, 105 * NS))
    platform.run(1 * MS)
    # Core 0 gives it back at 108 ns, while core 1 is about its own atomic operation.
    assert log == [(0, 108 * NS), (1, 113 * NS)]


def test_an_interrupt_comes_in_while_a_core_spins() -> None:
    platform, (one, two) = machine(2)
    lock = SpinLock("lock")
    log: list[tuple[str, int]] = []
    two.request_irq(1, lambda: log.append(("irq", two.time)))
    platform.at(500 * NS, lambda: platform.interrupt(1))

    def holder() -> None:
        with lock.held(one):
            one.spend(one.op("work"))

    def waiter() -> None:
        two.sleep_until(100 * NS)
        with lock.held(two):
            log.append(("locked", two.time))

    one.spawn("holder", holder)
    two.spawn("waiter", waiter)
    platform.run(1 * MS)
    assert log == [("irq", 500 * NS), ("locked", 1000 * NS)]


@pytest.mark.parametrize("seed", range(5))
def test_a_lock_excludes_under_random_load(seed: int) -> None:
    rng = random.Random(seed)
    platform, cores = machine(4, **{"line.transfer": 30, "spin.lock": 8, "spin.unlock": 2, "irq.entry": 40})
    lock = SpinLock("lock")
    regions: list[tuple[int, int]] = []

    def body(core: Core) -> None:
        for _ in range(25):
            core.spend(core.op("poll"), rng.randrange(300))
            lock.acquire(core)
            start = core.time
            core.spend(core.op("poll"), rng.randrange(100))
            regions.append((start, core.time))
            lock.release(core)

    for core in cores:
        core.request_irq(core.index, lambda core=core: core.spend(core.op("poll"), 5))
        core.spawn("body", lambda core=core: body(core))
    for _ in range(50):
        platform.at(rng.randrange(100 * US), partial(platform.interrupt, rng.randrange(4)))
    platform.run(10 * MS)
    assert len(regions) == 100, f"seed {seed}"
    regions.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(regions)), f"seed {seed}"


def test_being_alone_changes_no_time() -> None:
    def once(alone: bool) -> tuple[int, list[tuple[int, int, bytes]]]:
        platform = FakePlatform()
        core = Core(platform, 0, unit_profile(), alone=alone)
        lock, value = SpinLock("lock"), Shared(CacheLine("value"), 0)
        core.request_irq(1, lambda: core.spend(core.op("work")))
        for time in range(20):
            platform.at(time * 3 * US, lambda: platform.interrupt(1))

        def main() -> int:
            for _ in range(50):
                with lock.held(core):
                    value.store(core, value.load(core) + 1)
                    core.spend(core.op("work"))
                core.store(0, b"x")
            return core.time

        return run(platform, core, main), platform.stores

    assert once(True) == once(False)


def test_misuse_of_a_lock() -> None:
    platform, (one, two) = machine(2)
    lock = SpinLock("ring")

    def main() -> None:
        with pytest.raises(RuntimeError, match="Core 0 releases spin lock 'ring', which it does not hold"):
            lock.release(one)
        lock.acquire(one)
        with pytest.raises(RuntimeError, match="Core 0 deadlocks: it holds or waits for spin lock 'ring' already"):
            lock.acquire(one)
        platform.at(one.time, lambda: two.spawn("stuck", stuck))
        one.spend(one.op("work"), 2_000_000)
        one.sync()

    def stuck() -> None:
        with pytest.raises(TimeoutError, match="Core 1 spun for a second on spin lock 'ring', held by core 0"):
            lock.acquire(two)

    run(platform, one, main, limit=3000 * MS)
