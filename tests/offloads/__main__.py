# SPDX-License-Identifier: BSD-2-Clause
"""The large comparison of the NIC's offloads with scapy and the tests' own models: ``python -m tests.offloads``."""

import argparse

from hw.config import WIDTHS
from sim.backends.base import BACKENDS, launch
from tests.offloads.machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.offloads", description=__doc__)
    parser.add_argument("--packets", type=int, default=5000, help="frames to receive, to sum, and segments to send")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--width", type=int, nargs="+", choices=WIDTHS, default=[64, 512], help="bits of the datapath")
    parser.add_argument("--stalls", type=int, default=0, help="hold back all streams in so many of 256 cycles")
    parser.add_argument("--backend", choices=BACKENDS, default="verilator")
    options = parser.parse_args()
    for width in options.width:
        print(f"{width} bits, seed {options.seed}")
        argument = {"packets": options.packets, "seed": options.seed, "stalls": options.stalls, "progress": True}
        result = launch(options.backend, machine(width, stalls=options.stalls > 0), "tests.offloads.job:job", argument)
        for direction, kind, count in result["covered"]:
            print(f"{count:8} {direction:10}{kind}")
        print(
            f"{width} bits: {result['received']} frames received, {result['checksums']} requests for checksums and "
            f"{result['segments']} segments sent in {result['cycles']} cycles; buffers began at {result['starts'][0]} "
            f"places of a line, frames to be sent at {result['starts'][1]}: no difference"
        )


if __name__ == "__main__":
    main()
