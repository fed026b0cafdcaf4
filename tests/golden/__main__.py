# SPDX-License-Identifier: BSD-2-Clause
"""The large comparison of hardware and golden model, in Verilator: ``python -m tests.golden``."""

import argparse

from sim.backends.base import BACKENDS, launch
from tests.golden.configurations import CONFIGURATIONS
from tests.golden.machine import GoldenDesign


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("--worlds", type=int, default=400, help="random memories for each configuration")
    parser.add_argument("--requests", type=int, default=50, help="different requests to each, made twice")
    parser.add_argument("--seed", type=int, default=0, help="of the first world; the others follow")
    parser.add_argument("--backend", choices=BACKENDS, default="verilator")
    parser.add_argument(
        "configurations", nargs="*", metavar="CONFIGURATION", help=f"{', '.join(CONFIGURATIONS)}; all by default"
    )
    options = parser.parse_args()
    unknown = set(options.configurations) - set(CONFIGURATIONS)
    if unknown:
        parser.error(f"configurations are {', '.join(CONFIGURATIONS)}, not {', '.join(sorted(unknown))}")
    translations = 0
    for name in options.configurations or CONFIGURATIONS:
        print(f"{name}: {options.worlds} worlds from seed {options.seed} on, {options.requests} requests twice each")
        argument = {
            "seeds": [options.seed, options.seed + options.worlds],
            "requests": options.requests,
            "progress": True,
        }
        result = launch(options.backend, GoldenDesign(CONFIGURATIONS[name]), "tests.golden.compare:job", argument)
        print(result["coverage"])
        print(f"{name}: {result['translations']} translations in {result['cycles']} cycles, no difference")
        translations += result["translations"]
    print(f"{translations} translations agree with the golden model")


if __name__ == "__main__":
    main()
