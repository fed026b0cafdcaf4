# SPDX-License-Identifier: BSD-2-Clause
"""Memory over time: what strategies hold, what is free, and what waits in consumers, at equal times of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.scenario import Scenario

MICROSECOND = 10**6  #: in picoseconds


@dataclass(frozen=True)
class MemorySample:
    """Memory at one time.

    Attributes
    ----------
    time_us : since the first frame began on the wire
    inflight_mem : for each queue, bytes that its strategy holds or has lent out
    used : bytes of memory that are allocated, but for the page cache; those on lists of cores count as free
    free : bytes that the zone has free, without those on lists of cores
    page_cache : bytes that the page cache has
    waiting : packets that consumers still have
    delivered : frames that software has received, all queues together
    """

    time_us: int
    inflight_mem: Sequence[int]
    used: int
    free: int
    page_cache: int
    waiting: int
    delivered: int


class MemorySamples:
    """Looks at a scenario's memory from its first frame to its last, and changes nothing by that.

    Parameters
    ----------
    scenario : which has not run yet
    period_us : between two samples

    Attributes
    ----------
    series : the samples, by time
    """

    def __init__(self, scenario: Scenario, period_us: int) -> None:
        if not isinstance(period_us, int) or isinstance(period_us, bool) or period_us < 1:
            raise ValueError(f"period_us must be an integer, 1 or more, not {period_us!r}")
        self.series: list[MemorySample] = []
        self._scenario = scenario
        self._period = period_us * MICROSECOND
        self._first = self._last = 0
        scenario.at_begin.append(self._begin)

    def _begin(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._scenario.platform.at(first, self._take)

    def _take(self) -> None:
        scenario = self._scenario
        host, now = scenario.host, scenario.platform.now
        zone, page_size = host.zone, host.zone.page_size
        cache = 0 if zone.page_cache is None else len(zone.page_cache)
        listed = sum(pages.listed for pages in host.pages)
        self.series.append(
            MemorySample(
                time_us=(now - self._first) // MICROSECOND,
                inflight_mem=[queue.strategy.inflight_mem for queue in scenario.driver.queues],
                used=(zone.present - zone.free_pages - listed - cache) * page_size,
                free=zone.free_pages * page_size,
                page_cache=cache * page_size,
                waiting=scenario.consumer.busy,
                delivered=len(scenario.times),
            )
        )
        if now + self._period <= self._last:
            scenario.platform.at(now + self._period, self._take)
