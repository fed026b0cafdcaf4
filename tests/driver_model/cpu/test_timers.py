# SPDX-License-Identifier: BSD-2-Clause
"""Kernel timers: calls at their time, in softirq context, unless cancelled."""

import pytest

from driver_model.cpu.core import Core
from driver_model.cpu.timers import Timers
from tests.driver_model.cpu.machine import FREE, NS, US, run, unit_profile
from tests.driver_model.fake_platform import FakePlatform


def test_calls_in_their_order_in_softirq_context() -> None:
    platform = FakePlatform()
    core = Core(platform, 0, unit_profile(FREE))
    timers = Timers(core)
    calls: list[tuple[str, int, str]] = []

    def note(name: str) -> None:
        calls.append((name, core.time, core.context))

    def main() -> None:
        start = core.time
        timers.add(3 * US, lambda: note("late"))
        timers.add(1 * US, lambda: note("early"))
        cancelled = timers.add(2 * US, lambda: note("never"))
        core.spend(core.op("work"), 1)
        cancelled.cancel()
        core.sleep_until(start + 5 * US)

    run(platform, core, main)
    assert calls == [("early", 1 * US, "softirq"), ("late", 3 * US, "softirq")]


def test_the_delay_counts_from_the_cores_own_time() -> None:
    platform = FakePlatform()
    core = Core(platform, 0, unit_profile(FREE))
    timers = Timers(core)
    at: list[int] = []

    def main() -> None:
        core.spend(core.op("work"), 2)
        timers.add(100 * NS, lambda: at.append(core.time))
        core.sleep_until(10 * US)

    run(platform, core, main)
    assert at == [2 * US + 100 * NS]


def test_a_timer_whose_softirq_has_not_run_can_be_cancelled() -> None:
    platform = FakePlatform()
    core = Core(platform, 0, unit_profile(FREE))
    timers = Timers(core)
    calls: list[str] = []

    def main() -> None:
        timer = timers.add(1 * US, lambda: calls.append("never"))
        timers.add(1 * US, lambda: calls.append("still"))
        with core.irq_save():
            core.spend(core.op("work"), 3)
            core.sync()
            timer.cancel()
        core.sleep_until(core.time + 5 * US)

        core.softirq.disable()
        timer = timers.add(1 * US, lambda: calls.append("nor this"))
        core.spend(core.op("work"), 3)
        core.sync()  # its interrupt came, and raised the softirq
        timer.cancel()
        core.softirq.enable()
        core.sleep_until(core.time + 5 * US)

    run(platform, core, main)
    assert calls == ["still"]


@pytest.mark.parametrize(("delay", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_bad_delay(delay: int, error: type[Exception]) -> None:
    timers = Timers(Core(FakePlatform(), 0, unit_profile()))
    with pytest.raises(error, match=f"delay must be .*, not {delay}"):
        timers.add(delay, lambda: None)
