# SPDX-License-Identifier: BSD-2-Clause
"""Registers with too many loads, which nextpnr leaves as they are.

A register that resets a whole core drives more flip-flops than any wire reaches in a cycle. Vendors' tools copy such
registers, each copy for its part of the loads.
"""

from collections import defaultdict
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

_REGISTER = "TRELLIS_FF"
MOST_LOADS = 256


def copy_registers(netlist: Mapping[str, Any], most: int = MOST_LOADS) -> int:
    """Copy each flip-flop with more than ``most`` loads, in Yosys' JSON netlist of a flat design; returns how many
    copies. Loads share a copy by their names' order, so those of a block are together."""
    top = next(module for module in netlist["modules"].values() if module.get("attributes", {}).get("top"))
    cells = top["cells"]
    loads = defaultdict(list)
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for place, bit in enumerate(bits):
                    loads[bit].append((name, port, place))
    free = 1 + max(
        bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits if isinstance(bit, int)
    )
    copies = 0
    for name in [name for name, cell in cells.items() if cell["type"] == _REGISTER]:
        driven = sorted(loads[cells[name]["connections"]["Q"][0]])
        for start in range(most, len(driven), most):
            copy = deepcopy(cells[name])
            copy["connections"]["Q"] = [free]
            cells[f"{name}$copy{start // most}"] = copy
            top["netnames"][f"{name}$copy{start // most}_Q"] = {"hide_name": 1, "bits": [free], "attributes": {}}
            for load, port, place in driven[start : start + most]:
                cells[load]["connections"][port][place] = free
            free += 1
            copies += 1
    return copies
