# SPDX-License-Identifier: BSD-2-Clause
"""What the stages of the TX path hand to each other."""

from amaranth.hdl import Mux
from amaranth.lib import data
from amaranth.utils import ceil_log2

from hw.abi.rings import BUFFER_ID_BITS, INDEX_BITS, CompletionError
from hw.config import NicConfig

MIN_FRAME = 14
PADDED_FRAME = 60


def reserved_words(length, beat_bytes):
    """Words of the packet buffer set aside for a frame: those of the frame as it is sent. So each frame in the buffer
    holds at least ``reserved_words(0, beat_bytes)`` of them, the one being sent until its last beat."""
    return (Mux(length < PADDED_FRAME, PADDED_FRAME, length) + beat_bytes - 1) >> ceil_log2(beat_bytes)


class TxJob(data.StructLayout):
    """A frame taken from a ring, or a piece of one that is not to be sent. Its descriptors follow as :class:`TxPiece`.

    Members
    -------
    length : bytes of all descriptors, at most 65,535
    error : FRAME_LENGTH if the descriptors are only to be completed, not read
    aborted : the queue stopped before the frame's end was seen; one empty piece follows
    end : the frame ends here
    serial : simulation-only number, counted in the order in which jobs are taken
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "queue": range(config.queues),
                "length": 16,
                "error": CompletionError,
                "aborted": 1,
                "end": 1,
                "serial": config.serial_width,
            }
        )


class TxPiece(data.StructLayout):
    """A descriptor of a job.

    Members
    -------
    address, length, buffer_id : of the buffer
    read : it carries data
    report : a completion was asked for; its slot is reserved
    index : ring index one past the descriptor
    last : the job ends here
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "address": 64,
                "length": 16,
                "buffer_id": BUFFER_ID_BITS,
                "index": INDEX_BITS,
                "read": 1,
                "report": 1,
                "last": 1,
            }
        )


class TxFrame(data.StructLayout):
    """A whole frame in the packet buffer. Frames lie there one behind the other, each from a word's start; the bytes
    behind a frame's end in its last word are zero."""

    def __init__(self, config: NicConfig):
        super().__init__({"length": 16, "serial": config.serial_width})
