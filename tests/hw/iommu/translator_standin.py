# SPDX-License-Identifier: BSD-2-Clause
"""A translator in Python: what hits, how long walks take, and when there is none are the test's choice."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

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
        self.most = 0
        self._random = random.Random(seed)
        self._cycle = 0

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

        async def process(ctx: Any) -> None:
            pipeline: deque[int | None] = deque([None] * (LOOKUP_CYCLES - 1))
            samples = (port.request, port.address, port.first, port.look, port.release)
            async for _, _, request, address, first, look, release in ctx.tick().sample(*samples):
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
                if page is not None:
                    ctx.set(port.answer, self._answer(page))
                self.most = max(self.most, sum(walk is not None and walk.end > self._cycle for walk in self.walks))
                ended = [walk is not None and walk.end <= self._cycle for walk in self.walks]
                ctx.set(port.finished, sum(end << index for index, end in enumerate(ended)))

        sim.add_process(looks)
        sim.add_process(process)

    def _answer(self, page: int) -> dict[str, Any]:
        answer = self._outcome(page)
        self.answers.append(answer["outcome"])
        return answer

    def _outcome(self, page: int) -> dict[str, Any]:
        if page in self.resident:
            return {"outcome": Outcome.HIT, "ppn": self.pages[page]}
        # A walk answered in this cycle is claimed in it, and found by others from the next on.
        for index, walk in enumerate(self.walks):
            if walk and walk.page == page and walk.end > self._cycle:
                walk.claims += 1
                return {"outcome": Outcome.WALK, "walk": index}
        free = [index for index, walk in enumerate(self.walks) if walk is None]
        if not free or self._random.random() < self.retry:
            return {"outcome": Outcome.RETRY}
        self.walks[free[0]] = Walk(page, self._cycle + self.latency, 1)
        return {"outcome": Outcome.WALK, "walk": free[0]}
