# SPDX-License-Identifier: BSD-2-Clause
"""A module of five pins around exported cores, so that they can be placed and timed on a real chip.

A core has more ports than a package has pins. In the harness every input of a core comes from a register, all of them
one long shift register, and every output goes into a register, which another shift register reads out. So no port is
constant or unused, nothing is optimized away, and every path of the core lies between two registers of one clock: what
is timed is the core alone, as it would be among registered neighbours. Ports that lead from one core to another are
wired directly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

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


def ports_of(instance: str, core: wiring.Component) -> list[Port]:
    """Ports of an exported core but ``clk`` and ``rst``, in order of their names."""
    return [
        Port(instance, name, Shape.cast(member.shape).width, member.flow is Out)
        for name, member in sorted(core.signature.members.items())
    ]


def harness(cores: Mapping[str, tuple[str, Sequence[Port]]], links: Iterable[tuple[str, str]] = ()) -> str:
    """Verilog of the harness.

    Parameters
    ----------
    cores : of each instance, the name of its module and its ports
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
    inputs = [port for port in ports.values() if not port.output and port.wire not in linked]
    outputs = [port for port in ports.values() if port.output and port.wire not in linked]
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
    return "\n".join([*lines, "endmodule", ""])
