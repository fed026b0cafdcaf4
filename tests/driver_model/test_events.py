# SPDX-License-Identifier: BSD-2-Clause
"""The event log."""

import pytest

from driver_model.cpu.core import Core
from driver_model.events import Event, EventLog
from tests.driver_model.cpu.machine import FREE, NS, US, run, unit_profile
from tests.driver_model.fake_platform import FakePlatform


def test_events_tell_time_context_and_cost() -> None:
    platform = FakePlatform()
    core = Core(platform, 2, unit_profile(FREE | {"irq.entry": 100}))
    core.log = log = EventLog()
    core.request_irq(1, lambda: core.spend(core.op("poll")))
    platform.at(300 * NS, lambda: platform.interrupt(1))

    def main() -> None:
        core.spend(core.op("work"))
        core.mmio_write(8, 1)

    run(platform, core, main)
    assert [event for event in log.events if event.cost or event.kind == "mmio"] == [
        Event(0, 2, "main", "spend", None, None, "work", 1 * US),
        Event(300 * NS, 2, "hardirq", "spend", None, None, "irq.entry", 100 * NS),
        Event(400 * NS, 2, "hardirq", "spend", None, None, "poll", 7 * NS),
        Event(1107 * NS, 2, "main", "mmio", None, None, "write 0x8", 0),
    ]
    assert log.cost_by_function()["work"] == 1 * US


def test_a_log_is_off_by_default_and_can_be_taken_off() -> None:
    core = Core(FakePlatform(), 0, unit_profile())
    plain = core.spend
    assert core.log is None
    core.log = log = EventLog()
    assert core.spend != plain
    core.log = None
    assert core.spend == plain
    core.spend(core.op("work"))
    assert not log.events


def test_a_sink_gets_events_instead_of_the_list() -> None:
    events: list[Event] = []
    log = EventLog(events.append)
    log.record(5, 0, "softirq", "rx", "napi_poll", 3, packet=7, buffer=0x1000)
    assert events == [Event(5, 0, "softirq", "rx", 7, 0x1000, "napi_poll", 3)]
    assert not log.events
    with pytest.raises(TypeError, match="sink must be callable or None, not 3"):
        EventLog(3)
