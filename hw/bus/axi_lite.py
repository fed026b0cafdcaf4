# SPDX-License-Identifier: BSD-2-Clause
"""AXI4-Lite with 64-bit data, for registers (Arm IHI 0022, B1)."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import Response

DATA_WIDTH = 64


class AXILiteSignature(wiring.Signature):
    """AXI4-Lite seen from the manager; five streams under the rules of :class:`hw.bus.axi4.AXI4Signature`.

    Parameters
    ----------
    addr_width : 3..64 bits
    """

    def __init__(self, addr_width: int):
        if not 3 <= addr_width <= 64:
            raise ValueError(f"AXI4-Lite address width must be in 3..64 bits, not {addr_width!r}")
        self.addr_width = addr_width
        address = stream.Signature(data.StructLayout({"addr": addr_width}))
        super().__init__(
            {
                "aw": Out(address),
                "w": Out(stream.Signature(data.StructLayout({"data": DATA_WIDTH, "strb": DATA_WIDTH // 8}))),
                "b": In(stream.Signature(data.StructLayout({"resp": Response}))),
                "ar": Out(address),
                "r": In(stream.Signature(data.StructLayout({"data": DATA_WIDTH, "resp": Response}))),
            }
        )
