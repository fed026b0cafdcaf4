# SPDX-License-Identifier: BSD-2-Clause
"""Ports of exported Verilog, as its text declares them."""

import re


def ports(text: str, top: str) -> dict[str, tuple[str, int]]:
    """Direction and width by name."""
    body = re.search(rf"^module {top}\((.*?)^endmodule", text, re.DOTALL | re.MULTILINE).group(1)
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE)
    return {name: (direction, int(high or 0) + 1) for direction, high, name in found}
