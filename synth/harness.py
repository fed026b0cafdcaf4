# SPDX-License-Identifier: BSD-2-Clause
"""A module of five pins around exported cores, so that they can be placed and timed on a real chip.

A core has more ports than a package has pins. In the harness every input of a core comes from a register, all of them
one long shift register, and every output goes into a register, which another shift register reads out. So no port is
constant or unused, nothing is optimized away, and every path of the core lies between two registers of one clock: what
is timed is the core alone, as it would be among registered neighbours. Ports that lead from one core to another are
wired directly.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

TOP = "harness"


@dataclass(frozen=True)
class Port:
    """A port of an instance."""

    instance: str
    name: str
    width: int
    output: bool

    @property
    def wire(self) -> str:
        """Its wire in the harness."""
        return f"{self.instance}_{self.name}"


#: Of each instance, the name of its module and its ports.
Cores = Mapping[str, tuple[str, Sequence[Port]]]


def ports_of(instance: str, verilog: str, module: str) -> list[Port]:
    """Ports of a module of exported Verilog but ``clk`` and ``rst``, in their order there."""
    body = re.search(rf"^module {re.escape(module)}\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    if body is None:
        raise ValueError(f"Verilog has no module {module!r}")
    found = re.findall(r"^ *(input|output) (?:\[(\d+):0\] )?(\w+);", body[0], re.MULTILINE)
    return [
        Port(instance, name, int(high or 0) + 1, direction == "output")
        for direction, high, name in found
        if name not in ("clk", "rst")
    ]


def harness(cores: Cores, links: Iterable[tuple[str, str]] = ()) -> tuple[str, dict[str, int]]:
    """Verilog of the harness, and the flip-flops and LUTs that it takes for itself.

    Parameters
    ----------
    cores : what it holds
    links : wires of an output and of the input that it drives
    """
    ports = {port.wire: port for _, of_core in cores.values() for port in of_core}
    driver = {}
    for source, sink in links:
        for wire, output in ((source, True), (sink, False)):
            if wire not in ports or ports[wire].output is not output:
                raise ValueError(f"Link must be from an output to an input, not {source!r} to {sink!r}")
        if ports[source].width != ports[sink].width:
            raise ValueError(f"Link must join ports of one width, not {source!r} and {sink!r}")
        driver[sink] = source
    linked = {*driver, *driver.values()}
    free = [port for port in ports.values() if port.wire not in linked]
    inputs, outputs = [port for port in free if not port.output], [port for port in free if port.output]
    bits_in, bits_out = (sum(port.width for port in side) for side in (inputs, outputs))

    lines = [
        "// SPDX-License-Identifier: BSD-2-Clause",
        f"module {TOP}(input clk, input reset, input serial_in, input capture, output serial_out);",
        "  reg rst;",
        f"  reg [{bits_in - 1}:0] stimulus;",
        f"  reg [{bits_out - 1}:0] response, shifted;",
        *(f"  wire [{port.width - 1}:0] {port.wire};" for port in ports.values() if port.wire not in driver),
        f"  assign {{{', '.join(port.wire for port in inputs)}}} = stimulus;",
        "  assign serial_out = shifted[0];",
        "  always @(posedge clk) begin",
        "    rst <= reset;",
        "    stimulus <= {stimulus, serial_in};",
        f"    response <= {{{', '.join(port.wire for port in outputs)}}};",
        "    shifted <= capture ? response : shifted >> 1;",
        "  end",
    ]
    for instance, (module, of_core) in cores.items():
        joined = [f".{port.name}({driver.get(port.wire, port.wire)})" for port in of_core]
        lines += [f"  {module} {instance}(.clk(clk), .rst(rst), {', '.join(joined)});"]
    return "\n".join([*lines, "endmodule", ""]), {"ff": 1 + bits_in + 2 * bits_out, "lut": bits_out}
