# SPDX-License-Identifier: BSD-2-Clause
"""Time, memory, registers, interrupts and polling as kernel code sees them."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from driver_model.cpu.core import ALL_ONES, Core
from tests.driver_model.cpu.machine import FREE, MS, NS, US, run, unit_profile
from tests.driver_model.fake_platform import FakePlatform


def machine(**changes: int) -> tuple[FakePlatform, Core]:
    """A machine where only what the test changes costs time."""
    platform = FakePlatform()
    return platform, Core(platform, 0, unit_profile(FREE | changes))


def test_spending_runs_ahead_and_counts() -> None:
    platform, core = machine()
    work = core.op("work")

    def main() -> None:
        core.spend(work)
        core.spend(work, 3)
        assert (core.time, platform.now) == (4 * US, 0)
        core.sync()
        assert platform.now == 4 * US

    run(platform, core, main)
    assert work.count == 4
    assert core.op("work") is work


def test_an_operation_without_cost_is_refused() -> None:
    _, core = machine()
    with pytest.raises(KeyError, match="Profile unit has no cost for 'nap'; it has .*work"):
        core.op("nap")


def test_a_store_is_visible_at_the_cores_time() -> None:
    platform, core = machine(**{"cpu.store": 1})
    seen: list[bytes] = []
    stored = 1000 * NS + 2 * NS  # two lines
    for time in (stored - 1, stored + 1):
        platform.at(time, lambda: seen.append(platform.read(60, 8)))

    def main() -> None:
        core.spend(core.op("work"))
        core.store(60, b"12345678")
        core.spend(core.op("work"))
        core.sync()

    run(platform, core, main)
    assert platform.stores == [(stored, 60, b"12345678")]
    assert seen == [bytes(8), b"12345678"]


def test_a_load_sees_memory_at_the_cores_time() -> None:
    platform, core = machine(**{"cpu.load": 4})
    platform.at(1004 * NS, lambda: platform.device_write(0, b"new"))
    platform.at(1005 * NS, lambda: platform.device_write(0, b"too late"))

    def main() -> bytes:
        core.spend(core.op("work"))
        return core.load(0, 3)

    assert run(platform, core, main) == b"new"


def test_copy_takes_effect_at_its_end() -> None:
    platform, core = machine(**{"cpu.load": 4, "cpu.store": 1})
    platform.memory[0:128] = bytes(range(128))

    def main() -> None:
        core.copy(0x1000, 0, 128)

    run(platform, core, main)
    assert platform.stores == [(10 * NS, 0x1000, bytes(range(128)))]


def test_a_register_write_leaves_at_the_cores_time() -> None:
    platform, core = machine(**{"mmio.write": 25})

    def main() -> None:
        core.spend(core.op("work"))
        core.mmio_write(0x40, 7)
        assert core.time == 1025 * NS

    run(platform, core, main)
    assert platform.register_writes == [(1025 * NS, 0x40, 7)]


def test_a_register_read_waits_for_its_completion() -> None:
    platform, core = machine(**{"mmio.read": 5})
    platform.on_read = lambda offset: (offset + 1, offset == 0x50)

    def main() -> tuple[int, int, int]:
        core.spend(core.op("work"))
        return core.mmio_read(0x40), core.time, core.mmio_read(0x50)

    assert run(platform, core, main) == (0x41, 1505 * NS, ALL_ONES)
    assert core.mmio_read_errors == 1


def test_register_accesses_of_four_bytes() -> None:
    """A write says its size, and a read returns the half it is about; also where the device refuses it."""
    platform, core = machine()
    platform.iommu_registers = 0x4000
    platform.on_iommu_read = lambda offset: (0x1111_2222_3333_4444, offset == 8)
    written: list[tuple[int, int, int]] = []
    platform.on_iommu_write = lambda offset, value, size: written.append((offset, value, size))

    def main() -> list[int]:
        core.mmio_write(0x4004, 5, 4)
        core.mmio_write(0x4008, 6)
        core.mmio_write(0x4, 7, 4)
        return [core.mmio_read(0x4000, 4), core.mmio_read(0x4004, 4), core.mmio_read(0x4000), core.mmio_read(0x400C, 4)]

    assert run(platform, core, main) == [0x3333_4444, 0x1111_2222, 0x1111_2222_3333_4444, 0xFFFF_FFFF]
    assert written == [(4, 5, 4), (8, 6, 8)]
    assert (core.mmio_read_errors, platform.mmio_errors) == (1, 1)


def test_register_accesses_have_four_or_eight_bytes_at_a_multiple_of_them() -> None:
    platform, core = machine()

    def main() -> None:
        for access in (core.mmio_read, lambda offset, size: core.mmio_write(offset, 0, size)):
            with pytest.raises(ValueError, match="Register accesses have 4 or 8 bytes, not 2"):
                access(0, 2)
            with pytest.raises(ValueError, match="must be a multiple of 4 for an access of 4 bytes, not 6"):
                access(6, 4)

    run(platform, core, main)


def test_a_register_read_without_completion_times_out() -> None:
    platform, core = machine()
    platform.read_latency = 10**12

    def main() -> None:
        with pytest.raises(TimeoutError, match="Register read at 0x40 got no completion within 50 ms"):
            core.mmio_read(0x40)

    run(platform, core, main)


def test_an_interrupt_inside_a_spent_interval_preempts_at_its_own_time() -> None:
    platform, core = machine(**{"irq.entry": 100, "irq.exit": 50})
    log: list[tuple[str, int]] = []

    def handler() -> None:
        log.append(("handler", core.time))
        core.mmio_write(8, 1)
        core.spend(core.op("work"))

    core.request_irq(5, handler)
    platform.at(300 * NS, lambda: platform.interrupt(5))

    def main() -> None:
        core.spend(core.op("work"))
        core.store(0, b"x")
        log.append(("stored", core.time))

    run(platform, core, main)
    assert log == [("handler", 400 * NS), ("stored", 1000 * NS + 1150 * NS)]
    assert platform.register_writes == [(400 * NS, 8, 1)]
    assert platform.stores == [(2150 * NS, 0, b"x")]
    assert core.hardirq_ps == 1150 * NS


def test_an_interrupt_that_arrives_in_a_handler_follows_it() -> None:
    platform, core = machine(**{"irq.entry": 100, "irq.exit": 50})
    log: list[int] = []

    def handler() -> None:
        log.append(core.time)
        core.spend(core.op("work"))

    core.request_irq(5, handler)
    for time in (300, 400, 500):
        platform.at(time * NS, lambda: platform.interrupt(5))

    def main() -> int:
        core.spend(core.op("work"))
        core.sync()
        return core.time

    assert run(platform, core, main) == 1000 * NS + 3 * 1150 * NS
    assert log == [400 * NS, 1550 * NS, 2700 * NS]


def test_interrupts_wait_for_the_end_of_irq_save() -> None:
    platform, core = machine()
    log: list[tuple[str, int]] = []
    core.request_irq(5, lambda: log.append(("handler", core.time)))
    for time in (500, 1500):
        platform.at(time * NS, lambda: platform.interrupt(5))

    def main() -> None:
        core.spend(core.op("work"))
        with core.irq_save():
            core.spend(core.op("work"))
            with core.irq_save():
                core.store(0, b"x")
            log.append(("inside", core.time))
        log.append(("after", core.time))

    run(platform, core, main)
    assert log == [("handler", 500 * NS), ("inside", 2000 * NS), ("handler", 2000 * NS), ("after", 2000 * NS)]


def test_an_interrupt_wakes_an_idle_core() -> None:
    platform, core = machine()
    log: list[int] = []
    core.request_irq(5, lambda: log.append(core.time))
    platform.at(300 * NS, lambda: platform.interrupt(5))
    core.kick()
    assert not platform.run(1 * US)
    assert log == [300 * NS]
    assert core.context == "idle"
    assert core.idle_ps == 1 * US


def test_poll_until_resumes_at_the_next_poll() -> None:
    platform, core = machine()
    poll = core.op("poll")
    platform.at(100 * NS, lambda: platform.device_write(0x40, b"\1"))

    def main() -> tuple[bool, int]:
        return core.poll_until(0x40, 0x41, lambda data: data[0], 1 * MS, poll), core.time

    assert run(platform, core, main) == (True, 105 * NS)  # 15 polls of 7 ns
    assert poll.count == 15


def test_poll_until_ends_with_the_first_look_at_or_after_its_deadline() -> None:
    platform, core = machine()

    def main() -> tuple[bool, int]:
        return core.poll_until(0x40, 0x41, lambda data: data[0], 100 * NS, core.op("poll")), core.time

    assert run(platform, core, main) == (False, 105 * NS)


def test_a_poll_of_a_million_cycles_costs_no_python_per_cycle() -> None:
    platform, core = machine()
    looks: list[bytes] = []
    end = 1_000_000 * platform.cycle_ps
    platform.at(end, lambda: platform.device_write(0x40, b"\1"))

    def ready(data: bytes) -> bool:
        looks.append(data)
        return data == b"\1"

    def main() -> bool:
        return core.poll_until(0x40, 0x41, ready, 2 * end, core.op("poll"))

    assert run(platform, core, main, limit=2 * end)
    assert core.op("poll").count == -(-end // (7 * NS))
    assert looks == [b"\0", b"\1"]


def scenario(seed: int, plan: Callable[[Core, random.Random], list[Any]]) -> tuple[list[Any], int]:
    """Software among random device writes and interrupts; what it noted, and the core's busy time."""
    rng = random.Random(seed)
    platform, core = machine(**{"irq.entry": 3, "irq.exit": 2, "cpu.load": 4, "cpu.store": 1})
    core.request_irq(1, lambda: core.spend(core.op("poll"), 2))
    for _ in range(60):
        time = rng.randrange(400 * US)
        place, value = rng.randrange(64), rng.randrange(1, 256)
        platform.at(time, lambda place=place, value=value: platform.device_write(place, bytes([value])))
        platform.at(rng.randrange(400 * US), lambda: platform.interrupt(1))
    notes = run(platform, core, lambda: plan(core, rng))
    return [*notes, platform.stores], core.time


@pytest.mark.parametrize("seed", range(8))
def test_poll_until_is_the_loop_it_stands_for(seed: int) -> None:
    def fast(core: Core, rng: random.Random) -> list[Any]:
        notes: list[Any] = []
        for place in range(16):
            deadline = core.time + rng.randrange(40 * US)
            found = core.poll_until(place, place + 1, any, deadline, core.op("poll"))
            notes.append((found, core.time, core.op("poll").count))
        return notes

    def slow(core: Core, rng: random.Random) -> list[Any]:
        notes: list[Any] = []
        for place in range(16):
            deadline = core.time + rng.randrange(40 * US)
            core.sync()
            while not (found := any(core.platform.read(place, 1))) and core.time < deadline:
                core.spend(core.op("poll"))
                core.sync()
            notes.append((found, core.time, core.op("poll").count))
        return notes

    assert scenario(seed, fast) == scenario(seed, slow), f"seed {seed}"


@pytest.mark.parametrize("seed", range(8))
def test_shortcuts_of_memory_access_change_nothing(seed: int) -> None:
    def plan(latched: bool) -> Callable[[Core, random.Random], list[Any]]:
        def body(core: Core, rng: random.Random) -> list[Any]:
            notes: list[Any] = []
            for turn in range(200):
                core.spend(core.op("poll"), rng.randrange(200))
                place = rng.randrange(64)
                if latched:
                    found = any(core.load_latched(place, 1, any))
                    own = core.load_owned(0x1000 + turn, 3)
                    core.store_owned(0x1000 + turn, b"ab")
                else:
                    found = any(core.load(place, 1))
                    own = core.load(0x1000 + turn, 3)
                    core.store(0x1000 + turn, b"ab")
                notes.append((found, own))
                if turn % 16 == 0:
                    core.sync()
                    notes.append(core.time)
            return notes

        return body

    fast, slow = scenario(seed, plan(True)), scenario(seed, plan(False))
    assert fast[0][:-1] == slow[0][:-1], f"seed {seed}"
    assert fast[1] == slow[1], f"seed {seed}"


def test_the_observer_is_told_of_every_access() -> None:
    platform, core = machine(**{"cpu.load": 4, "cpu.store": 1})
    seen: list[tuple[int, int, int, int, bool]] = []
    core.access_observer = lambda core, *access: seen.append((core.index, *access))

    def main() -> None:
        core.load(0, 4)
        core.store(8, b"ab")
        core.load_owned(16, 64)
        core.store_owned(24, b"abc")
        core.load_latched(32, 2, lambda data: True)
        core.copy(64, 128, 5)

    run(platform, core, main)
    assert seen == [
        (0, 4 * NS, 0, 4, False),
        (0, 5 * NS, 8, 2, True),
        (0, 13 * NS, 16, 64, False),
        (0, 14 * NS, 24, 3, True),
        (0, 18 * NS, 32, 2, False),
        (0, 23 * NS, 128, 5, False),
        (0, 23 * NS, 64, 5, True),
    ]


def test_a_store_may_cost_another_operation_for_each_line() -> None:
    platform, core = machine()
    run(platform, core, lambda: core.store_owned(60, bytes(70), core.op("poll")))
    assert (core.op("poll").count, core.op("cpu.store").count) == (3, 0)
    assert platform.read(60, 70) == bytes(70)


def test_bad_parameters() -> None:
    platform = FakePlatform()
    for index, error in ((-1, ValueError), (1024, ValueError), ("0", TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"index must be .*, not {index!r}"):
            Core(platform, index, unit_profile())
    _, core = machine(poll=0)
    with pytest.raises(ValueError, match="Operation poll must take time to poll with, not 0 ps"):
        core.poll_until(0, 1, any, 0, core.op("poll"))
    with pytest.raises(RuntimeError, match="interrupts enabled more often"):
        core.irq_enable()
    with pytest.raises(RuntimeError, match="preemption enabled more often"):
        core.preempt_enable()


def test_an_exception_in_software_ends_the_run() -> None:
    platform, core = machine()

    def main() -> None:
        core.store(0, b"x")
        with core.irq_save():
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        run(platform, core, main)
