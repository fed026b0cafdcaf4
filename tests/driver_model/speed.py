# SPDX-License-Identifier: BSD-2-Clause
"""How fast the driver model itself runs, in packets a second of wall time: ``python -m tests.driver_model.speed``.

A flood of 64-byte frames (60 in memory) on the fake device, with page_pool, with and without checkers: dropped by XDP,
and built into SKBs that a packet filter drops. Opening, closing and making the frames counts as well. Of three runs the
fastest is told, beside what the project asks for.
"""

from time import perf_counter

from driver_model.net.filter import FilterDrop
from sim.traffic.flows import Flows
from tests.driver_model.bench import Bench
from tests.driver_model.stack_bench import StackBench

PACKETS = 20_000
RUNS = 3
LEAST = {("drop", False): 100_000, ("drop", True): 40_000, ("filter", False): 30_000, ("filter", True): 15_000}
NAMES = {"drop": "XDP_DROP", "filter": "SKB, filter"}


def packets_per_second(consumer: str, checked: bool) -> float:
    """One run."""
    frame = Flows(1).frame(0, 60, 0)
    bench: Bench
    if consumer == "drop":
        bench = Bench("page_pool", "drop", checked=checked)
    else:
        bench = StackBench("page_pool", lambda bench, core: FilterDrop(), checked=checked)

    def flood() -> None:
        bench.start()
        bench.nic.receive(0, [frame] * PACKETS)
        bench.wait(lambda: bench.total("rx_packets") == PACKETS, "every packet", 10**12)
        bench.finish()

    start = perf_counter()
    bench.run(flood)
    return PACKETS / (perf_counter() - start)


def main() -> None:
    """Print a table."""
    print(f"{'consumer':12} {'checkers':8} {'packets/s':>10} {'asked for':>10}")
    for (consumer, checked), least in LEAST.items():
        best = max(packets_per_second(consumer, checked) for _ in range(RUNS))
        verdict = "" if best >= least else "  too slow"
        print(f"{NAMES[consumer]:12} {'on' if checked else 'off':8} {best:10,.0f} {least:10,}{verdict}")


if __name__ == "__main__":
    main()
