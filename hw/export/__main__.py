# SPDX-License-Identifier: BSD-2-Clause
"""``python -m hw.export --core iommu -o DIR``: write a core's Verilog, C header and register reference."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from hw.config import CORES, core_preset
from hw.export.verilog import export


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m hw.export", description="Export a core as Verilog with AXI ports.")
    parser.add_argument("--core", default="nic", choices=CORES, help="what to export (default: %(default)s)")
    parser.add_argument("--preset", default="10g", help="configuration (default: %(default)s)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    options = parser.parse_args(arguments)
    for path in export(core_preset(options.core, options.preset), options.out):
        print(path)


if __name__ == "__main__":
    main()
