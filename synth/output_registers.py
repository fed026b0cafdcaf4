# SPDX-License-Identifier: BSD-2-Clause
"""Block RAM's own output registers, which Yosys leaves unused.

A block RAM of ECP5 can register what it reads before that leaves it (``REGMODE``: ``OUTREG``, enabled by ``OCE``).
Yosys puts flip-flops behind it instead, 4.3 ns and a wire after the clock. Where the source registers a read before any
logic, the two are the same.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

_RAM = "DP16KD"
_REGISTER = "TRELLIS_FF"
_WIDE = 36  #: data bits at which both ports together are one that reads, and one that writes


def use_output_registers(netlist: Mapping[str, Any]) -> int:
    """Move flip-flops behind block RAM into it, in Yosys' JSON netlist of a flat design; returns how many.

    A port's flip-flops move if each of its bits that is used goes to one of them and nowhere else, all have the port's
    clock and one enable, and none a reset or an initial 1: a RAM's registers have no initial value to choose.
    """
    top = next(module for module in netlist["modules"].values() if module.get("attributes", {}).get("top"))
    cells: MutableMapping[str, Any] = top["cells"]
    users = _users(top)
    moved = 0
    for ram in [cell for cell in cells.values() if cell["type"] == _RAM]:
        for ports in _reading(ram):
            found = _registers(ram, ports, cells, users)
            if found is None:
                continue
            enable, registers = found
            for bit, register in registers.items():
                ram["connections"][bit] = cells.pop(register)["connections"]["Q"]
            for port in ports:
                ram["parameters"][f"REGMODE_{port}"] = "OUTREG"
                ram["connections"][f"OCE{port}"] = enable
            moved += len(registers)
    return moved


def _users(module: Mapping[str, Any]) -> dict[Any, list[tuple[str, str]]]:
    """What each net goes to: cells and their ports; the module's own outputs have no name."""
    users = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    users[bit].append((name, port))
    for port in module["ports"].values():
        if port["direction"] == "output":
            for bit in port["bits"]:
                users[bit].append(("", ""))
    return users


def _reading(ram: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """The ports whose outputs belong together."""
    width = max(int(ram["parameters"][f"DATA_WIDTH_{port}"], 2) for port in "AB")
    yield from (["AB"] if width == _WIDE else ["A", "B"])


def _registers(
    ram: Mapping[str, Any], ports: Sequence[str], cells: Mapping[str, Any], users: Mapping[Any, list[tuple[str, str]]]
) -> tuple[list[Any], dict[str, str]] | None:
    """The enable and, by output, the names of the flip-flops that can move; None if they cannot, or there are none."""
    registers, controls = {}, set()
    for output, bits in ram["connections"].items():
        if not output.startswith(tuple(f"DO{port}" for port in ports)) or not (bits and users.get(bits[0])):
            continue
        name, pin = users[bits[0]][0]
        if len(users[bits[0]]) > 1 or pin != "DI" or cells[name]["type"] != _REGISTER:
            return None
        register, parameters = cells[name]["connections"], cells[name]["parameters"]
        if register.get("LSR", ["0"]) != ["0"] or parameters.get("REGSET", "RESET") != "RESET":
            return None
        if parameters.get("CLKMUX", "CLK") != "CLK":
            return None
        enable = register["CE"] if parameters.get("CEMUX", "1") == "CE" else ["1"]
        controls.add((*enable, *register["CLK"]))
        registers[output] = name
    clocks = {ram["connections"][f"CLK{port}"][0] for port in ports}
    if len(controls) != 1 or clocks != {next(iter(controls))[1]}:
        return None
    return [next(iter(controls))[0]], registers
