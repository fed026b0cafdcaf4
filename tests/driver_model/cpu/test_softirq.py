# SPDX-License-Identifier: BSD-2-Clause
"""Softirqs: when they run, in whose time, and when ksoftirqd takes over."""

import pytest

from driver_model.cpu.core import Core
from driver_model.cpu.softirq import MAX_SOFTIRQ_RESTART, SoftirqVector
from tests.driver_model.cpu.machine import FREE, MS, NS, US, run, unit_profile
from tests.driver_model.fake_platform import FakePlatform

RX = SoftirqVector.NET_RX
TX = SoftirqVector.NET_TX


def machine(**changes: int) -> tuple[FakePlatform, Core, list[tuple[str, int]]]:
    platform = FakePlatform()
    return platform, Core(platform, 0, unit_profile(FREE | changes)), []


def test_a_softirq_runs_at_the_exit_of_its_hardirq_with_interrupts_on() -> None:
    platform, core, log = machine(**{"irq.entry": 100, "irq.exit": 50, "softirq.entry": 20})

    def action() -> None:
        log.append((core.context, core.time))
        core.spend(core.op("work"))

    def handler() -> None:
        log.append((core.context, core.time))
        core.raise_softirq(RX)

    core.softirq.open(RX, action)
    core.request_irq(1, handler)
    core.request_irq(2, lambda: log.append((core.context, core.time)))
    platform.at(200 * NS, lambda: platform.interrupt(1))
    platform.at(500 * NS, lambda: platform.interrupt(2))

    def main() -> int:
        core.spend(core.op("work"))
        core.sync()
        return core.time

    # 200 hardirq 350 softirq ... 500 hardirq 650 ... 1520 softirq ends, 800 of the process are left.
    assert run(platform, core, main) == 2320 * NS
    assert log == [("hardirq", 300 * NS), ("softirq", 370 * NS), ("hardirq", 600 * NS)]
    assert core.hardirq_ps == 300 * NS
    assert core.softirq.busy_ps == 1020 * NS


def test_softirqs_run_in_order_of_priority_and_never_nest() -> None:
    platform, core, log = machine()

    def rx() -> None:
        log.append(("rx", core.time))
        core.spend(core.op("work"))
        core.sync()
        log.append(("rx end", core.time))

    core.softirq.open(RX, rx)
    core.softirq.open(TX, lambda: log.append(("tx", core.time)))

    def both() -> None:
        core.raise_softirq(RX)
        core.raise_softirq(TX)

    core.request_irq(1, both)
    platform.at(100 * NS, lambda: platform.interrupt(1))
    platform.at(600 * NS, lambda: platform.interrupt(1))

    run(platform, core, lambda: (core.spend(core.op("work")), core.sync()))
    assert log == [
        ("tx", 100 * NS),
        ("rx", 100 * NS),
        ("rx end", 1100 * NS),
        ("tx", 1100 * NS),
        ("rx", 1100 * NS),
        ("rx end", 2100 * NS),
    ]


def test_an_interrupt_late_in_a_softirqs_spent_time_finds_it_running() -> None:
    platform, core, log = machine(**{"irq.entry": 10, "irq.exit": 10})
    starts: list[int] = []

    def action() -> None:
        starts.append(core.time)
        core.spend(core.op("work"))

    core.softirq.open(RX, action)
    core.request_irq(1, lambda: core.raise_softirq(RX))
    platform.at(0, lambda: platform.interrupt(1))
    platform.at(900 * NS, lambda: platform.interrupt(1))
    core.kick()
    platform.run(10 * US)
    # The second raise waits for the end of the first action, moved by the second interrupt.
    assert starts == [20 * NS, 1040 * NS]
    assert not log


def test_irq_save_in_a_softirq_keeps_off_only_what_arrives_inside() -> None:
    platform, core, log = machine(**{"irq.entry": 100})

    def action() -> None:
        core.spend(core.op("work"))
        with core.irq_save():
            core.spend(core.op("work"))
            core.store(0, b"x")
            log.append(("inside", core.time))

    core.softirq.open(RX, action)
    core.request_irq(1, lambda: core.raise_softirq(RX))
    core.request_irq(2, lambda: log.append(("hardirq", core.time)))
    platform.at(0, lambda: platform.interrupt(1))
    for time in (500, 1150, 1350):
        platform.at(time * NS, lambda: platform.interrupt(2))
    core.kick()
    platform.run(10 * US)
    # The softirq begins at 100; 500 and 1150 lie before the region, which they move to 1300..2300.
    assert log == [
        ("hardirq", 600 * NS),
        ("hardirq", 1250 * NS),
        ("inside", 2300 * NS),
        ("hardirq", 2400 * NS),
    ]


def test_ksoftirqd_takes_over_after_ten_restarts() -> None:
    platform, core, log = machine()
    runs: list[str] = []

    def action() -> None:
        runs.append(core.scheduler.current.name)
        core.spend(core.op("poll"))
        if len(runs) < 25:
            core.raise_softirq(RX)

    core.softirq.open(RX, action)
    core.request_irq(1, lambda: core.raise_softirq(RX))
    platform.at(100 * NS, lambda: platform.interrupt(1))
    core.kick()
    platform.run(1 * MS)
    assert runs == ["idle"] * MAX_SOFTIRQ_RESTART + ["ksoftirqd/0"] * 15
    assert not log


def test_ksoftirqd_takes_over_after_two_milliseconds() -> None:
    platform, core, _ = machine()
    runs: list[str] = []

    def action() -> None:
        runs.append(core.scheduler.current.name)
        core.spend(core.op("work"), 900)
        if len(runs) < 5:
            core.raise_softirq(RX)

    core.softirq.open(RX, action)
    core.request_irq(1, lambda: core.raise_softirq(RX))
    platform.at(100 * NS, lambda: platform.interrupt(1))
    core.kick()
    platform.run(20 * MS)
    assert runs == ["idle"] * 3 + ["ksoftirqd/0"] * 2


def test_a_waiting_process_ends_the_run_of_softirqs() -> None:
    platform, core, _ = machine()
    runs: list[str] = []
    sleeper_ran: list[int] = []

    def action() -> None:
        runs.append(core.scheduler.current.name)
        core.spend(core.op("work"), 100)
        core.sync()
        if len(runs) < 4:
            core.raise_softirq(RX)

    core.softirq.open(RX, action)
    core.request_irq(1, lambda: core.raise_softirq(RX))

    def sleeper() -> None:
        core.sleep_until(5 * MS + 50 * US)
        sleeper_ran.append(core.time)

    def busy() -> None:
        core.spend(core.op("work"), 8000)
        core.sync()

    core.spawn("sleeper", sleeper)
    core.spawn("busy", busy)
    platform.at(5 * MS, lambda: platform.interrupt(1))
    platform.run(20 * MS)
    assert runs[:2] == ["busy", "ksoftirqd/0"]
    assert len(runs) == 4
    assert sleeper_ran == [5 * MS + 100 * US]


def test_local_bh_disable_holds_softirqs_back_not_hardirqs() -> None:
    platform, core, log = machine()

    def handler() -> None:
        log.append(("hardirq", core.time))
        core.raise_softirq(RX)

    core.softirq.open(RX, lambda: log.append(("softirq", core.time)))
    core.request_irq(1, handler)
    platform.at(300 * NS, lambda: platform.interrupt(1))

    def main() -> None:
        core.softirq.disable()
        core.softirq.disable()
        core.spend(core.op("work"))
        core.softirq.enable()
        log.append(("inside", core.time))
        core.softirq.enable()
        log.append(("after", core.time))

    run(platform, core, main)
    assert log == [
        ("inside", 1000 * NS),
        ("hardirq", 300 * NS),
        ("softirq", 1000 * NS),
        ("after", 1000 * NS),
    ]


def test_a_process_that_raises_a_softirq_leaves_it_to_ksoftirqd() -> None:
    platform, core, log = machine()
    core.softirq.open(RX, lambda: log.append((core.scheduler.current.name, core.time)))

    def main() -> None:
        core.raise_softirq(RX)
        core.sleep_until(1 * MS)

    run(platform, core, main)
    assert [name for name, _ in log] == ["ksoftirqd/0"]


def test_misuse() -> None:
    _, core, _ = machine()
    with pytest.raises(ValueError, match="has no action on core 0: open it first"):
        core.raise_softirq(RX)
    core.softirq.open(RX, lambda: None)
    with pytest.raises(ValueError, match="Softirq NET_RX already has an action on core 0"):
        core.softirq.open(RX, lambda: None)
    with pytest.raises(RuntimeError, match="softirqs enabled more often"):
        core.softirq.enable()
