# SPDX-License-Identifier: BSD-2-Clause
"""NAPI: budgets, fairness, completion, and no lost schedule."""

from collections.abc import Callable

import pytest

from driver_model.net.napi import (
    NAPI_POLL_WEIGHT,
    Napi,
    Softnet,
    napi_complete_done,
    napi_disable,
    napi_enable,
    napi_schedule,
)
from tests.driver_model.bench import Bench


class Work:
    """A NAPI instance with some packets to handle."""

    def __init__(self, softnet: Softnet, packets: int, weight: int = NAPI_POLL_WEIGHT, ps: int = 0) -> None:
        self.packets = packets
        self.rounds: list[int] = []
        self.completed = 0
        self.in_poll: Callable[[], object] = lambda: None
        self._ps = ps
        self.napi = Napi(softnet, self.poll, weight)
        napi_enable(self.napi)

    def poll(self, budget: int) -> int:
        done = min(budget, self.packets)
        self.packets -= done
        self.napi.softnet.core.time += done * self._ps
        self.rounds.append(done)
        self.in_poll()
        if done < budget and napi_complete_done(self.napi, done):
            self.completed += 1
        return done


@pytest.fixture
def bench() -> Bench:
    return Bench(checked=False)


def settle(bench: Bench, *works: Work) -> None:
    """Schedule from a process and wait until all is done."""

    def go() -> None:
        for work in works:
            napi_schedule(work.napi)
        bench.wait(lambda: not any(work.napi.scheduled for work in works), "NAPI to become idle", limit=10**11)

    bench.run(go)


def test_a_poll_handles_its_weight_and_comes_again(bench: Bench) -> None:
    work = Work(bench.host.softnets[0], 150)
    settle(bench, work)
    assert work.rounds == [64, 64, 22]
    assert work.completed == 1
    assert work.napi.list_owner == -1
    assert bench.host.softnets[0].processed == 150


def test_exactly_the_weight_means_another_poll(bench: Bench) -> None:
    work = Work(bench.host.softnets[0], 64)
    settle(bench, work)
    assert work.rounds == [64, 0]


def test_instances_take_turns(bench: Bench) -> None:
    order: list[str] = []
    works = [Work(bench.host.softnets[0], 130), Work(bench.host.softnets[0], 130)]
    for name, work in zip("ab", works, strict=True):
        work.in_poll = lambda name=name: order.append(name)
    settle(bench, *works)
    assert "".join(order) == "ababab"


def test_the_budget_squeezes(bench: Bench) -> None:
    softnet = bench.host.softnets[0]
    works = [Work(softnet, 128) for _ in range(6)]
    settle(bench, *works)
    assert [work.rounds for work in works] == [[64, 64, 0]] * 6
    assert softnet.time_squeeze == 2, "300 packets are five polls; the third run has 128 packets and four empty polls"


def test_the_time_limit_squeezes(bench: Bench) -> None:
    softnet = bench.host.softnets[0]
    works = [Work(softnet, 300, ps=20_000_000) for _ in range(3)]
    settle(bench, *works)
    assert softnet.time_squeeze == 7, "2 ms are two polls of 64 packets of 20 us, or three of 44"


def test_a_schedule_during_the_poll_is_not_lost(bench: Bench) -> None:
    work = Work(bench.host.softnets[0], 10)

    def more() -> None:
        if len(work.rounds) == 1:
            work.packets += 5
            assert not napi_schedule(work.napi)

    work.in_poll = more
    settle(bench, work)
    assert work.rounds == [10, 5]
    assert work.completed == 1


def test_disabling_waits_for_the_poll_and_stops_it(bench: Bench) -> None:
    work = Work(bench.host.softnets[0], 10**6, ps=10**5)

    def go() -> None:
        napi_schedule(work.napi)
        bench.core.sleep_until(bench.core.time + 10**6)
        napi_disable(work.napi)
        assert not work.napi.scheduled
        done = sum(work.rounds)
        assert 0 < done < 10**6
        assert not napi_schedule(work.napi)
        bench.core.sleep_until(bench.core.time + 10**9)
        assert sum(work.rounds) == done

    bench.run(go)


def test_disabling_gives_up_after_a_second(bench: Bench) -> None:
    work = Work(bench.host.softnets[0], 0)

    def go() -> None:
        work.napi.scheduled = True
        with pytest.raises(TimeoutError, match="napi_disable waited a second for the poll of napi"):
            napi_disable(work.napi)

    bench.run(go, limit=2 * 10**12)


def test_a_poll_beyond_its_budget_is_an_error(bench: Bench) -> None:
    napi = Napi(bench.host.softnets[0], lambda budget: budget + 1)
    napi_enable(napi)
    napi.scheduled = True
    bench.host.softnets[0].poll_list.append(napi)
    with pytest.raises(RuntimeError, match="Poll of napi reported 65 packets, more than its budget of 64"):
        bench.run(lambda: napi_schedule(Work(bench.host.softnets[0], 0).napi) and bench.core.sleep_until(10**9))


@pytest.mark.parametrize("weight", [0, 65])
def test_bad_weight(bench: Bench, weight: int) -> None:
    with pytest.raises(ValueError, match=rf"NAPI weight must be in 1\.\.64, not {weight}"):
        Work(bench.host.softnets[0], 0, weight)


def test_bad_budget(bench: Bench) -> None:
    with pytest.raises(ValueError, match="budget must be positive, not 0 packets"):
        Softnet(bench.core, budget=0)
