# SPDX-License-Identifier: BSD-2-Clause
"""The event kernel: order, time, and hardware between the calls."""

import random

import pytest

from sim.backends.kernel import EventKernel, NullHardware

CYCLE = 6_400


class ScriptedHardware(NullHardware):
    """Hardware whose writes are given: watched ranges are hit in these cycles."""

    def __init__(self, writes: list[tuple[int, int]]) -> None:
        super().__init__()
        self.writes = sorted(writes)
        self.calls: list[int] = []
        self._watches: dict[int, tuple[int, int]] = {}
        self._hits: list[int] = []
        self._tokens = 0

    def watch(self, storage: str, start: int, stop: int) -> int:
        self._tokens += 1
        self._watches[self._tokens] = (start, stop)
        return self._tokens

    def unwatch(self, token: int) -> None:
        del self._watches[token]

    def advance(self, until_cycle: int) -> int:
        self.calls.append(until_cycle)
        while self.writes and self.writes[0][0] <= until_cycle:
            cycle, address = self.writes.pop(0)
            self._hits += [token for token, (start, stop) in self._watches.items() if start <= address < stop]
            if self._hits and not (self.writes and self.writes[0][0] == cycle):
                self.cycle = cycle
                return cycle
        self.cycle = until_cycle
        return until_cycle

    def hits(self) -> list[int]:
        hits, self._hits = sorted(set(self._hits)), []
        return hits


def test_calls_run_in_the_order_of_time_rank_and_making() -> None:
    kernel, ran = EventKernel(NullHardware(), CYCLE), []
    rng = random.Random(1)
    expected = []
    for number in range(200):
        time, rank = rng.randrange(20), rng.randrange(3)
        expected.append((time, rank, number))
        kernel.at(time, lambda entry=(time, rank, number): ran.append((kernel.now, *entry[1:])), rank)
    assert not kernel.run(100)
    assert ran == sorted(expected)
    assert kernel.now == 100


def test_a_call_may_make_further_calls_even_at_its_own_time() -> None:
    kernel, ran = EventKernel(NullHardware(), CYCLE), []

    def first() -> None:
        ran.append("first")
        kernel.at(kernel.now, lambda: ran.append("third"))
        kernel.at(kernel.now + 1, lambda: ran.append("fourth"))

    kernel.at(5, first)
    kernel.at(5, lambda: ran.append("second"))
    kernel.run(10)
    assert ran == ["first", "second", "third", "fourth"]


def test_a_cancelled_call_does_not_run_and_does_not_hold_up() -> None:
    kernel, ran = EventKernel(NullHardware(), CYCLE), []
    event = kernel.at(5, lambda: ran.append(1))
    event.cancel()
    assert kernel.advance(10)
    kernel.run(20)
    assert not ran


def test_stop_ends_the_run_at_once() -> None:
    kernel, ran = EventKernel(NullHardware(), CYCLE), []
    kernel.at(5, kernel.stop)
    kernel.at(5, lambda: ran.append(1))
    assert kernel.run(10)
    assert (kernel.now, ran) == (5, [])
    assert not kernel.run(10)
    assert ran == [1]


def test_hardware_is_advanced_to_the_edge_at_or_before_a_call() -> None:
    hardware = ScriptedHardware([])
    kernel, seen = EventKernel(hardware, CYCLE), []
    for time in (CYCLE - 1, CYCLE, 3 * CYCLE + 5):
        kernel.at(time, lambda: seen.append((kernel.now, hardware.cycle)))
    kernel.run(10 * CYCLE + 1)
    assert seen == [(CYCLE - 1, 0), (CYCLE, 1), (3 * CYCLE + 5, 3)]
    assert hardware.cycle == 10


def test_a_hit_calls_back_at_its_edge_before_calls_of_that_time() -> None:
    hardware = ScriptedHardware([(4, 100), (7, 101), (9, 50)])
    kernel, seen = EventKernel(hardware, CYCLE), []
    kernel.watch("memory", 100, 102, lambda: seen.append(("hit", kernel.now)))
    kernel.at(4 * CYCLE, lambda: seen.append(("call", kernel.now)))
    kernel.run(20 * CYCLE)
    assert seen == [("hit", 4 * CYCLE), ("call", 4 * CYCLE), ("hit", 7 * CYCLE)]


def test_hits_of_one_edge_call_back_in_the_order_of_their_watches() -> None:
    hardware = ScriptedHardware([(4, 1), (4, 2)])
    kernel, seen = EventKernel(hardware, CYCLE), []
    for name, address in (("a", 2), ("b", 1), ("c", 2)):
        kernel.watch("memory", address, address + 1, lambda name=name: seen.append(name))
    kernel.run(20 * CYCLE)
    assert seen == ["a", "b", "c"]


def test_a_cancelled_watch_calls_nobody_even_for_a_hit_of_the_same_edge() -> None:
    hardware = ScriptedHardware([(4, 1), (6, 1)])
    kernel, seen = EventKernel(hardware, CYCLE), []

    def first() -> None:
        seen.append("first")
        watches[1].cancel()
        watches[1].cancel()

    watches = [
        kernel.watch("memory", 1, 2, first),
        kernel.watch("memory", 1, 2, lambda: seen.append("second")),
    ]
    kernel.run(20 * CYCLE)
    assert seen == ["first", "first"]


def test_advance_gives_way_to_calls_and_to_hits() -> None:
    hardware = ScriptedHardware([(4, 1), (8, 1)])
    kernel, seen = EventKernel(hardware, CYCLE), []
    kernel.watch("memory", 1, 2, lambda: seen.append(kernel.now))
    event = kernel.at(10 * CYCLE, lambda: None)
    assert not kernel.advance(10 * CYCLE)
    assert kernel.now == 0
    assert not kernel.advance(9 * CYCLE)
    assert (kernel.now, seen) == (4 * CYCLE, [4 * CYCLE])
    assert kernel.advance(8 * CYCLE)
    assert seen == [4 * CYCLE, 8 * CYCLE]
    event.cancel()
    assert kernel.advance(10 * CYCLE)


def test_an_idle_machine_is_advanced_in_one_step() -> None:
    hardware = ScriptedHardware([])
    EventKernel(hardware, CYCLE).run(10**6 * CYCLE)
    assert hardware.calls == [10**6]


def test_misuse_is_refused() -> None:
    kernel = EventKernel(NullHardware(), CYCLE)
    kernel.run(100)
    with pytest.raises(ValueError, match="Cannot call at 99 ps: 100 ps is reached"):
        kernel.at(99, lambda: None)
    with pytest.raises(ValueError, match="Cannot run until 5 ps: 100 ps is reached"):
        kernel.run(5)
    for value, error in ((0, ValueError), (-1, ValueError), (6.4, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"cycle_ps must be .*, not {value!r}"):
            EventKernel(NullHardware(), value)
    kernel.at(200, lambda: kernel.run(300))
    with pytest.raises(RuntimeError, match="runs already"):
        kernel.run(300)
    assert not kernel.run(300)
