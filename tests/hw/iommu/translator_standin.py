# SPDX-License-Identifier: BSD-2-Clause
"""A translator in Python: what hits, how long walks take, and when there is none are the test's choice."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

from amaranth import Signal
from amaranth.sim import Simulator

from hw.abi.iommu import Cause
from hw.iommu.interfaces import LOOKUP_CYCLES, Outcome

PAGE = 4096


@dataclass
class Walk:
    """A walk under way, or finished and claimed."""

    page: int
    end: int  #: cycle
    claims: int = 0


class TranslatorStandin:
    """Answers a channel's translation port.

    Parameters
    ----------
    walks : how many there are
    latency : cycles of a walk
    seed : of ``retry``
    retry : probability that a miss is not taken on although it could be

    Attributes
    ----------
    pages : of each page that may be used, its physical page; the others fault
    resident : pages that hit
    keep : what was walked hits from then on
    quiet : faults are not to be reported
    requests : (cycle, page, first) of each lookup
    answers : outcome of each lookup, in order
    walked : pages of all walks, in the order in which they were begun
    most : the most walks that were under way at once
    """

    def __init__(self, *, walks: int = 4, latency: int = 40, seed: int = 0, retry: float = 0.0):
        self.walks: list[Walk | None] = [None] * walks
        self.latency = latency
        self.retry = retry
        self.pages: dict[int, int] = {}
        self.resident: set[int] = set()
        self.keep = True
        self.quiet = False
        self.requests: list[tuple[int, int, bool]] = []
        self.answers: list[Outcome] = []
        self.walked: list[int] = []
        self.most = 0
        self._random = random.Random(seed)
        self._cycle = 0
        self._offer: dict[str, Any] | None = None  # answer of this cycle, unless the port says ``hold``

    def hit(self, *pages: int) -> None:
        """Pages that are mapped to themselves plus 0x100 and hit."""
        self.map(*pages)
        self.resident.update(pages)

    def map(self, *pages: int) -> None:
        """Pages that are mapped to themselves plus 0x100, and miss at first."""
        self.pages.update((page, page + 0x100) for page in pages)

    @property
    def idle(self) -> bool:
        """No walk is claimed or under way."""
        return not any(self.walks)

    def attach(self, sim: Simulator, port: Any) -> None:
        """Serve a channel's port."""

        def show(ctx: Any, look: int) -> None:
            walk = self.walks[look] if look < len(self.walks) else None
            if walk is None:
                return
            ppn = self.pages.get(walk.page)
            cause = Cause.NONE if ppn is not None else Cause.WRITE_PAGE
            ctx.set(port.result, {"cause": cause, "quiet": self.quiet, "ppn": ppn or 0, "iotval2": 0x1234})

        async def looks(ctx: Any) -> None:
            async for look, _ in ctx.changed(port.look, port.finished):
                show(ctx, look)

        cycle = Signal(1)

        async def answers(ctx: Any) -> None:
            async for _, hold in ctx.changed(cycle, port.hold):
                if self._offer:
                    ctx.set(port.answer, _held(self._offer, hold))

        async def process(ctx: Any) -> None:
            pipeline: deque[int | None] = deque([None] * (LOOKUP_CYCLES - 1))
            samples = (port.request, port.address, port.first, port.look, port.release, port.hold)
            page = None
            async for _, _, request, address, first, look, release, hold in ctx.tick().sample(*samples):
                if self._offer:
                    self._give(page, _held(self._offer, hold))
                self._cycle += 1
                if release:
                    walk = self.walks[look]
                    if walk is None or not walk.claims:
                        raise AssertionError(f"Walk {look} was released without a claim")
                    walk.claims -= 1
                if request:
                    self.requests.append((self._cycle, address // PAGE, bool(first)))
                for index, walk in enumerate(self.walks):
                    if walk and walk.end <= self._cycle:
                        if self.keep and walk.page in self.pages:
                            self.resident.add(walk.page)
                        if not walk.claims:
                            self.walks[index] = None
                pipeline.append(address // PAGE if request else None)
                page = pipeline.popleft()
                ctx.set(port.answered, page is not None)
                self._offer = None if page is None else self._outcome(page)
                ctx.set(cycle, self._cycle & 1)
                self.most = max(self.most, sum(walk is not None and walk.end > self._cycle for walk in self.walks))
                ended = [walk is not None and walk.end <= self._cycle for walk in self.walks]
                ctx.set(port.finished, sum(end << index for index, end in enumerate(ended)))

        sim.add_process(looks)
        sim.add_process(answers)
        sim.add_process(process)

    def _give(self, page: Any, answer: dict[str, Any]) -> None:
        """This was the answer."""
        self.answers.append(answer["outcome"])
        if answer["outcome"] is Outcome.WALK:
            if self.walks[answer["walk"]] is None:
                self.walks[answer["walk"]] = Walk(page, self._cycle + self.latency)
                self.walked.append(page)
            self.walks[answer["walk"]].claims += 1

    def _outcome(self, page: int) -> dict[str, Any]:
        if page in self.resident:
            return {"outcome": Outcome.HIT, "ppn": self.pages[page]}
        for index, walk in enumerate(self.walks):
            if walk and walk.page == page and walk.end > self._cycle:
                return {"outcome": Outcome.WALK, "walk": index}
        free = [index for index, walk in enumerate(self.walks) if walk is None]
        if not free or self._random.random() < self.retry:
            return {"outcome": Outcome.RETRY}
        return {"outcome": Outcome.WALK, "walk": free[0]}


def _held(answer: dict[str, Any], hold: Any) -> dict[str, Any]:
    return {"outcome": Outcome.RETRY} if hold and answer["outcome"] is Outcome.WALK else answer
