# SPDX-License-Identifier: BSD-2-Clause
"""The account of streams: every cycle of each is in one count, at any time and in both backends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring

from sim.backends.base import BACKENDS, Backend, launch
from sim.host.stream_account import AccountClient, StreamAccount

HERE = "tests.sim.host.test_stream_account"
STREAMS = {"always": (1, 1), "source": (3, 1), "sink": (1, 4), "both": (3, 4), "rare": (7, 5)}  #: periods
AMOUNTS = {"bytes": 6}
NAMES = (*STREAMS, *AMOUNTS)


class Streams(wiring.Component):
    """Each stream is valid in every cycle that is a multiple of its first period, ready in those of its second; the
    amount is the low byte of the cycle's number, at its period."""

    def __init__(self) -> None:
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.account = account = StreamAccount(tuple(STREAMS), tuple(AMOUNTS))
        cycle = Signal(64)
        m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += account.cycle.eq(cycle)
        for place, periods in enumerate(STREAMS.values()):
            for word, period in zip((account.streams.valid, account.streams.ready), periods, strict=True):
                m.d.comb += word[place].eq(cycle % period == 0)
        with m.If(cycle % AMOUNTS["bytes"] == 0):
            m.d.comb += account.amounts.bytes.eq(cycle[:8])
        return m


@dataclass(frozen=True)
class StreamsDesign:
    """See :class:`Streams`."""

    access_log: bool = False

    def build(self) -> wiring.Component:
        return Streams()


def expected(now: int) -> Iterator[tuple[str, list[int], int]]:
    """Name, counts, and edge of the last transfer, of each record after edge ``now``."""
    for place, name in enumerate(NAMES):
        edge = now - 1 - (now - 1 - place) % len(NAMES)  # the edge before the last that wrote this record
        edge = max(edge, 0)
        cycles = range(edge)
        if name in AMOUNTS:
            yield name, [edge, sum(c & 0xFF for c in cycles if c % AMOUNTS[name] == 0), 0, 0], 0
            continue
        valid, ready = STREAMS[name]
        moved = [c for c in cycles if c % valid == 0 and c % ready == 0]
        stalled = sum(c % valid == 0 and c % ready != 0 for c in cycles)
        starved = sum(c % valid != 0 and c % ready == 0 for c in cycles)
        yield name, [edge, len(moved), stalled, starved], moved[-1] + 1 if moved else 0


def look(backend: Backend, design: StreamsDesign, cycles: list[int]) -> list[Any]:
    """Counts and last transfers at some times, and counts from the first of them on."""
    account = AccountClient(backend, NAMES)
    seen = []
    for cycle in cycles:
        backend.advance(cycle)
        seen.append([account.counts(), account.last()])
    account.begin()
    backend.advance(cycles[-1] + 120)
    return [seen, account.counts()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_cycle_is_counted_once(backend: str) -> None:
    cycles = [0, 1, 4, 6, 7, 50, 51, 300]
    seen, later = launch(backend, StreamsDesign(), f"{HERE}:look", cycles)
    for cycle, (counts, last) in zip(cycles, seen, strict=True):
        for name, count, edge in expected(cycle):
            assert counts[name] == count, f"{name} in cycle {cycle}"
            assert last[name] == edge, f"{name} in cycle {cycle}"
    # All periods but 7 divide 60, and all records are as old as they were.
    assert later["always"] == [120, 120, 0, 0]
    assert later["source"] == [120, 40, 0, 80]
    assert later["sink"] == [120, 30, 90, 0]
    assert later["both"] == [120, 10, 30, 20]


def counts_of(backend: Backend, design: StreamsDesign, names: list[str]) -> Any:
    return AccountClient(backend, names).counts()


def test_names_must_be_those_of_the_hardware() -> None:
    with pytest.raises(ValueError, match="has 6 records"):
        launch("amaranth", StreamsDesign(), f"{HERE}:counts_of", ["always"])
    with pytest.raises(ValueError, match="each its own"):
        StreamAccount(("one", "two"), ("one",))
