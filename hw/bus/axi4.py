# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 as five streams (Arm IHI 0022, AXI4)."""

from typing import Any

from amaranth import Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import Sideband

PAGE_BYTES = 4096  #: no burst crosses a boundary of this size (IHI 0022, A3.4.1)
MAX_BURST_BEATS = 256


class Response(enum.Enum, shape=2):
    """xRESP."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class AddressChannel(data.StructLayout):
    """AW and AR. Bursts are INCR; cache, protection, QoS and region attributes are constants added at export.

    ``len`` is beats - 1, ``size`` the log2 of bytes in a beat, ``lock`` asks for exclusive access, ``user`` says for
    the IOMMU who asks (:class:`hw.abi.rings.Sideband`).
    """

    def __init__(self, addr_width: int, id_width: int):
        super().__init__({"id": id_width, "addr": addr_width, "len": 8, "size": 3, "lock": 1, "user": Sideband})


def crosses_page(burst: Any) -> Value:
    """Whether a burst of :class:`AddressChannel` goes beyond its 4 KiB, as no manager may have it."""
    page_bits = PAGE_BYTES.bit_length() - 1
    last_beat = (burst.addr[:page_bits] >> burst.size) + burst.len
    return (last_beat << burst.size)[page_bits:].any()


class WriteData(data.StructLayout):
    """W. Lanes with ``strb`` off are not written."""

    def __init__(self, data_width: int):
        super().__init__({"data": data_width, "strb": data_width // 8, "last": 1})


class WriteResponse(data.StructLayout):
    """B."""

    def __init__(self, id_width: int):
        super().__init__({"id": id_width, "resp": Response})


class ReadData(data.StructLayout):
    """R."""

    def __init__(self, data_width: int, id_width: int):
        super().__init__({"id": id_width, "data": data_width, "resp": Response, "last": 1})


class AXI4Signature(wiring.Signature):
    """AXI4 seen from the manager.

    Every channel is a stream: ``valid`` never waits for ``ready``, and the payload holds until it is taken. W beats
    come in the order of their AW and may precede it. Responses of one ID keep their order; data of different IDs may
    interleave. No burst crosses 4 KiB.

    Parameters
    ----------
    data_width : 64, 128, 256 or 512 bits
    id_width : 1..16 bits
    addr_width : 12..64 bits
    """

    def __init__(self, data_width: int, *, id_width: int = 8, addr_width: int = 64):
        if data_width not in (64, 128, 256, 512):
            raise ValueError(f"AXI4 data width must be 64, 128, 256 or 512 bits, not {data_width!r}")
        if not 1 <= id_width <= 16:
            raise ValueError(f"AXI4 ID width must be in 1..16 bits, not {id_width!r}")
        if not 12 <= addr_width <= 64:
            raise ValueError(f"AXI4 address width must be in 12..64 bits, not {addr_width!r}")
        self.data_width = data_width
        self.id_width = id_width
        self.addr_width = addr_width
        super().__init__(
            {
                "aw": Out(stream.Signature(AddressChannel(addr_width, id_width))),
                "w": Out(stream.Signature(WriteData(data_width))),
                "b": In(stream.Signature(WriteResponse(id_width))),
                "ar": Out(stream.Signature(AddressChannel(addr_width, id_width))),
                "r": In(stream.Signature(ReadData(data_width, id_width))),
            }
        )

    def channels(self, *names: str) -> wiring.Signature:
        """Only the channels of these names."""
        return wiring.Signature({name: self.members[name] for name in names})
