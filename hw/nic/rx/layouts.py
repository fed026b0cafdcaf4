# SPDX-License-Identifier: BSD-2-Clause
"""What the stages of the RX path hand to each other."""

from amaranth.lib import data

from hw.abi.rings import BUFFER_ID_BITS
from hw.config import NicConfig


class RxFrame(data.StructLayout):
    """A whole, good frame in the packet buffer. Frames lie there one behind the other, each from a word's start.

    Members
    -------
    length : bytes
    destination : destination MAC address, first byte on the wire lowest
    serial : simulation-only number
    """

    def __init__(self, config: NicConfig):
        super().__init__({"length": 16, "destination": 48, "serial": config.serial_width})


class SteeredFrame(data.StructLayout):
    """A frame and its queue. ``routed`` is off where no such queue exists: the frame is to be dropped."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {"length": 16, "queue": range(config.queues), "routed": 1, "serial": config.serial_width},
        )


class Segment(data.StructLayout):
    """The next bytes of the packet buffer, and where they go.

    Members
    -------
    drop : nowhere; ``length`` is the whole frame's, and nothing else counts
    address, length, buffer_id : the buffer, and how many bytes of the frame it takes
    end_of_packet : the frame ends here
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "address": 64,
                "length": 16,
                "buffer_id": BUFFER_ID_BITS,
                "queue": range(config.queues),
                "end_of_packet": 1,
                "drop": 1,
                "serial": config.serial_width,
            }
        )
