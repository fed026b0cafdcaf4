# SPDX-License-Identifier: BSD-2-Clause
"""A driver under a flood: its core never catches up, and what a packet takes is what published rates tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sim.traffic.flows import Flows
from tests.driver_model.bench import Bench

FRAME_BYTES = 60  #: the shortest frame, without FCS
WARM_UP, PACKETS = 4096, 8192
LONG = 10**11  #: picoseconds; the flood is over before


@dataclass(frozen=True)
class Flooded:
    """What a packet took.

    Attributes
    ----------
    ps : picoseconds
    operations : picoseconds of each operation; together they are no more than ``ps``
    """

    ps: Fraction
    operations: Mapping[str, Fraction]


def flood(bench: Bench) -> Flooded:
    """Let packets of one flow arrive, more than the core can take, and measure between two polls in which the ring was
    never empty."""
    frame = Flows(1, 1, 1).frame(0, FRAME_BYTES, 0)
    marks: list[tuple[int, int, dict[str, tuple[int, int]]]] = []

    def body() -> None:
        bench.start()
        (queue,) = bench.driver.queues
        burst = queue.burst

        def marked(budget: int) -> int:
            work = burst(budget)
            packets = queue.statistics.rx_packets
            if work == budget and packets >= (WARM_UP if not marks else WARM_UP + PACKETS) and len(marks) < 2:
                marks.append((packets, bench.core.time, bench.system.operations()))
            return work

        queue.burst = marked
        bench.nic.receive(0, [frame] * (WARM_UP + 2 * PACKETS))
        bench.core.sleep_until(bench.core.time + LONG)
        bench.finish()

    bench.run(body)
    (packets, start, before), (all_packets, end, after) = marks
    count = all_packets - packets
    spent = {name: Fraction(ps - before.get(name, (0, 0))[1], count) for name, (_, ps) in after.items()}
    return Flooded(Fraction(end - start, count), {name: ps for name, ps in spent.items() if ps})
