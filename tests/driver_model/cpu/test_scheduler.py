# SPDX-License-Identifier: BSD-2-Clause
"""Processes: fair shares, sleep and wake-up, preemption at its own time."""

import gc
import weakref

from driver_model.cpu.core import Core
from driver_model.cpu.scheduler import LATENCY, WaitQueue
from driver_model.cpu.system import System
from driver_model.events import EventLog
from tests.driver_model.cpu.machine import FREE, MS, NS, US, run, unit_profile
from tests.driver_model.fake_platform import FakePlatform


def machine(**changes: int) -> tuple[FakePlatform, Core]:
    platform = FakePlatform()
    return platform, Core(platform, 0, unit_profile(FREE | changes))


def test_two_busy_processes_share_the_core_in_turns() -> None:
    platform, core = machine()
    ends: dict[str, int] = {}

    def busy(name: str) -> None:
        core.spend(core.op("work"), 11_500)
        core.store(0, name.encode())
        ends[name] = core.time

    core.spawn("a", lambda: busy("a"))
    core.spawn("b", lambda: busy("b"))
    platform.run(30 * MS)
    # Turns of 3 ms, half the latency; each needs 11.5 ms.
    assert ends == {"a": 20_500 * US, "b": 23 * MS}
    assert [time for time, _, _ in platform.stores] == [20_500 * US, 23 * MS]
    assert LATENCY == 6 * MS


def test_a_switch_costs_and_the_shares_stay_fair() -> None:
    platform, core = machine(**{"context.switch": 500})
    tasks = [core.spawn(name, lambda: (core.spend(core.op("work"), 50_000), core.sync())) for name in "abc"]
    platform.run(60 * MS)
    shares = [task.vruntime for task in tasks]
    assert max(shares) - min(shares) <= LATENCY // 3 + 10 * US
    assert core.op("context.switch").count >= 60 // 2


def test_sleep_until_wakes_at_its_time_and_costs_an_interrupt_and_a_wake_up() -> None:
    platform, core = machine(**{"irq.entry": 100, "irq.exit": 50, "task.wake": 200, "context.switch": 500})

    def main() -> int:
        core.sleep_until(10 * US)
        return core.time

    assert run(platform, core, main) == 10 * US + 850 * NS
    assert core.idle_ps == 10 * US - 1000 * NS  # but for the switches to the process and away from it


def test_a_sleeper_preempts_a_busy_process_at_its_wake_up() -> None:
    platform, core = machine()
    log: list[tuple[str, int]] = []

    def sleeper() -> None:
        core.sleep_until(7 * MS)
        log.append(("sleeper", core.time))
        core.spend(core.op("work"))

    def busy() -> None:
        core.spend(core.op("work"), 9_000)
        core.store(0, b"x")
        log.append(("busy", core.time))

    core.spawn("sleeper", sleeper)
    core.spawn("busy", busy)
    platform.run(20 * MS)
    assert log == [("sleeper", 7 * MS), ("busy", 9 * MS + 1 * US)]


def test_a_long_sleep_earns_no_long_turn() -> None:
    platform, core = machine()
    ends: dict[str, int] = {}

    def sleeper() -> None:
        core.sleep_until(100 * MS)
        core.spend(core.op("work"), 20_000)
        core.sync()
        ends["sleeper"] = core.time

    core.spawn("sleeper", sleeper)
    core.spawn("busy", lambda: (core.spend(core.op("work"), 200_000), core.sync()))
    platform.run(300 * MS)
    # The sleeper runs 3 ms ahead of its share, which is half of the core from then on.
    assert 134 * MS <= ends["sleeper"] <= 140 * MS


def test_nothing_preempts_a_region_without_preemption() -> None:
    platform, core = machine()
    log: list[tuple[str, int]] = []

    def sleeper() -> None:
        core.sleep_until(7 * MS)
        log.append(("sleeper", core.time))

    def busy() -> None:
        core.spend(core.op("work"), 6_500)
        core.preempt_disable()
        core.spend(core.op("work"), 1_500)
        core.preempt_enable()
        log.append(("busy", core.time))

    core.spawn("sleeper", sleeper)
    core.spawn("busy", busy)
    platform.run(20 * MS)
    assert log == [("sleeper", 8 * MS), ("busy", 8 * MS)]


def test_a_wait_queue_wakes_in_order_and_only_for_its_condition() -> None:
    platform, core = machine()
    queue, items, log = WaitQueue(), [], []

    def consumer(name: str) -> None:
        queue.wait(core, lambda: items)
        log.append((name, items.pop(0), core.time))

    def producer() -> None:
        for item in range(2):
            core.sleep_until((item + 1) * 10 * US)
            queue.wake_up(core)
            items.append(item)
            queue.wake_up(core, 1)

    for name in "ab":
        core.spawn(name, lambda name=name: consumer(name))
    core.spawn("producer", producer)
    platform.run(1 * MS)
    assert log == [("a", 0, 10 * US), ("b", 1, 20 * US)]


def test_a_process_of_another_core_is_woken_by_an_interrupt() -> None:
    platform = FakePlatform()
    one, two = System(platform, unit_profile(FREE | {"irq.entry": 100}), 2).cores
    queue, items, log = WaitQueue(), [], []

    def consumer() -> None:
        queue.wait(two, lambda: items)
        log.append(two.time)

    def producer() -> None:
        one.spend(one.op("work"), 5)
        one.sync()
        items.append(1)
        queue.wake_up(one)

    two.spawn("consumer", consumer)
    one.spawn("producer", producer)
    platform.run(1 * MS)
    assert log == [5 * US + 100 * NS]


def test_two_cores_wake_the_same_processes_at_once() -> None:
    platform = FakePlatform()
    one, two, three = System(platform, unit_profile(FREE), 3).cores
    queue, items, log = WaitQueue(), [], []

    def consumer(name: str) -> None:
        queue.wait(three, lambda: items)
        log.append(name)

    def producer(core: Core) -> None:
        core.sleep_until(10 * US)
        items.append(core)
        core.spend(core.op("work"))
        queue.wake_up(core)

    for name in "ab":
        three.spawn(name, lambda name=name: consumer(name))
    for core in (one, two):
        core.spawn("producer", lambda core=core: producer(core))
    platform.run(1 * MS)
    assert log == ["a", "b"]


def test_a_process_that_another_core_starts_gets_its_turn_in_time() -> None:
    platform = FakePlatform()
    one, two = System(platform, unit_profile(FREE), 2).cores
    log: list[tuple[str, int]] = []

    def busy() -> None:
        two.spend(two.op("work"), 20_000)
        two.sync()
        log.append(("busy", two.time))

    def starter() -> None:
        one.sleep_until(1 * MS)
        two.spawn("late", lambda: log.append(("late", two.time)))

    two.spawn("busy", busy)
    one.spawn("starter", starter)
    platform.run(30 * MS)
    assert log == [("late", 1 * MS + LATENCY // 2), ("busy", 20 * MS)]


def test_cores_take_turns_in_the_order_of_time_and_index() -> None:
    platform = FakePlatform()
    system = System(platform, unit_profile(FREE), 3)
    log: list[tuple[int, int]] = []

    def body(core: Core, step: int) -> None:
        for _ in range(6):
            core.spend(core.op("work"), step)
            core.sync()
            log.append((core.time // US, core.index))

    for core, step in zip(system.cores, (1, 2, 3)):
        core.spawn("body", lambda core=core, step=step: body(core, step))
    platform.run(1 * MS)
    assert log == sorted(log)
    assert len(log) == 18


def test_shutdown_ends_every_process_and_frees_the_machine() -> None:
    log: list[str] = []

    def once() -> "weakref.ref[FakePlatform]":
        platform = FakePlatform()
        system = System(platform, unit_profile(FREE), 2)

        def sleeper(core: Core) -> None:
            try:
                core.sleep_until(1000 * MS)
            finally:
                log.append("ended")
                core.store(0, b"too late")
                log.append("stored")

        for core in system.cores:
            core.spawn("done", lambda core=core: core.spend(core.op("work")))
            core.spawn("sleeper", lambda core=core: sleeper(core))
        platform.run(1 * MS)
        system.cores[0].spawn("never started", lambda: log.append("started"))
        system.shutdown()
        assert platform.now == 1 * MS
        assert not platform.stores
        return weakref.ref(platform)

    machine = once()
    gc.collect()
    assert log == ["ended", "ended"]
    assert machine() is None


def test_the_same_run_twice_is_identical_and_the_log_changes_nothing() -> None:
    def once(log: EventLog | None) -> list[object]:
        platform = FakePlatform()
        profile = unit_profile({"irq.entry": 130, "task.wake": 210})
        system = System(platform, profile, 2, log=log)
        for core in system.cores:
            core.request_irq(core.index, lambda core=core: core.spend(core.op("work")))
            for name in "ab":
                core.spawn(name, lambda core=core: body(core))
        for time in range(100):
            platform.at(time * 77 * US, lambda time=time: platform.interrupt(time % 2))
        platform.run(20 * MS)
        return [platform.stores, system.operations(), [core.idle_ps for core in system.cores]]

    def body(core: Core) -> None:
        for turn in range(40):
            core.spend(core.op("work"), 30)
            core.store(8 * core.index, bytes([turn]))
            core.sleep_until(core.time + 50 * US)

    log, again = EventLog(), EventLog()
    assert once(None) == once(log) == once(again)
    assert log.events == again.events
    costs = log.cost_by_function()
    assert costs["irq.entry"] == 100 * 130 * NS + log_count(log, "task.wake") * 130 * NS


def log_count(log: EventLog, function: str) -> int:
    """How often a function was charged."""
    return sum(event.function == function for event in log.events)
