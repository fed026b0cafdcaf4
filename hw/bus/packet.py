# SPDX-License-Identifier: BSD-2-Clause
"""The packet stream: frames as beats, between MAC and NIC and inside the NIC."""

from amaranth.lib import data, stream


class PacketBeat(data.StructLayout):
    """One beat of a frame.

    Members
    -------
    data : width bits
        Bytes in the order of the wire, first byte in the lowest lane.
    count : 1..width/8
        Valid bytes, from lane 0. Every beat but a frame's last is full.
    first, last : 1
        The beat begins, ends a frame; a frame of one beat has both.
    error : 1
        With ``last``: the frame is damaged (bad FCS, or cut off).
    serial : serial_width bits
        Simulation-only number that follows a frame; of zero width in exported Verilog. The same in all beats of a
        frame.
    """

    def __init__(self, width: int, serial_width: int = 0):
        if width not in (64, 128, 256, 512):
            raise ValueError(f"Packet stream width must be 64, 128, 256 or 512 bits, not {width!r}")
        if not 0 <= serial_width <= 64:
            raise ValueError(f"Serial width must be in 0..64 bits, not {serial_width!r}")
        super().__init__(
            {
                "data": width,
                "count": range(width // 8 + 1),
                "first": 1,
                "last": 1,
                "error": 1,
                "serial": serial_width,
            }
        )


def packet_stream(width: int, serial_width: int = 0) -> stream.Signature:
    """Signature of a packet stream.

    The rules of :class:`amaranth.lib.stream.Signature` hold: once ``valid`` is high, it and the payload stay until
    ``ready``; ``valid`` never waits for ``ready``. From the wire there is no backpressure: a receiver of the MAC's
    stream keeps ``ready`` high and drops whole frames instead. Towards the wire, ``valid`` stays high from a frame's
    first beat to its last.
    """
    return stream.Signature(PacketBeat(width, serial_width))
