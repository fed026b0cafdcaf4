# SPDX-License-Identifier: BSD-2-Clause
"""A published loop on a machine on which nothing else happens."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from driver_model.cpu.profile import Profile
from tests.driver_model.bench import Bench

WARM_UP, TURNS = 256, 1024

Replay = Callable[[Profile], Fraction]  #: picoseconds of one turn of a benchmark on a profile's machine
Turn = Callable[[], object]
Prepare = Callable[[Bench], Turn]  #: makes a benchmark's loop ready, and returns one turn of it


def loop(prepare: Prepare, count: int = 1, **machine: Any) -> Replay:
    """Replay a loop, each turn of which handles so many pages or objects: what one of them takes."""

    def replay(profile: Profile) -> Fraction:
        bench = Bench(checked=False, profile=profile, **machine)

        def measure() -> int:
            turn = prepare(bench)
            for _ in range(WARM_UP):
                turn()
            return timed(bench, turn, TURNS)

        return Fraction(bench.run(measure), TURNS * count)

    return replay


def timed(bench: Bench, turn: Turn, turns: int = 1) -> int:
    """Picoseconds of so many turns, in a process; nothing comes in, as in the benchmark modules."""
    bench.core.softirq.disable()
    start = bench.core.time
    for _ in range(turns):
        turn()
    spent = bench.core.time - start
    bench.core.softirq.enable()
    return spent
