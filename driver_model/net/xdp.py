# SPDX-License-Identifier: BSD-2-Clause
"""XDP: a program that decides about each frame before the stack sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driver_model.cpu.core import Core
    from driver_model.net.xdp_metadata import XdpMetadata
    from driver_model.net.xdp_redirect import XdpTarget

XDP_PACKET_HEADROOM = 256
LINE = 64  #: bytes of a cache line


class XdpAction(IntEnum):
    """Verdicts, with the kernel's values."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


class XdpBuff:
    """``struct xdp_buff``: the frame, or its first fragment, that a program looks at. One is reused for a whole queue.

    Attributes
    ----------
    core : the core that runs the program, and by which the program reaches the frame's bytes
    queue : index of the receive queue
    data_hard_start, data, data_end : physical addresses: start of the buffer, of the frame, and one past its last byte
    touched : bytes of the frame up to here were looked at; what lies beyond is not in the core's cache
    metadata : what the driver tells of the frame beside its bytes, or None: for :mod:`driver_model.net.xdp_metadata`
    device : the queue pair that it came by, or None
    target : where verdict REDIRECT sends it, as a helper that redirects has said; None: none has
    """

    __slots__ = (
        "core",
        "data",
        "data_end",
        "data_hard_start",
        "device",
        "metadata",
        "op_redirect",
        "queue",
        "target",
        "touched",
    )

    def __init__(
        self, core: "Core", queue: int, metadata: "XdpMetadata | None" = None, device: "XdpTarget | None" = None
    ) -> None:
        self.core = core
        self.queue = queue
        self.metadata = metadata
        self.device = device
        self.target: XdpTarget | None = None
        self.op_redirect = core.op("xdp.redirect")  #: for the helpers that redirect
        self.data_hard_start = 0
        self.data = 0
        self.data_end = 0
        self.touched = 0

    def begin(self, address: int, headroom: int, length: int) -> None:
        """Turn to the frame of ``length`` bytes that lies ``headroom`` behind a buffer's address."""
        self.data_hard_start = address
        self.data = self.touched = address + headroom
        self.data_end = self.data + length

    def load(self, offset: int, length: int) -> bytes:
        """Bytes of the frame. Raises ``IndexError`` beyond its end, where the kernel's verifier would refuse."""
        self._touch(offset, length)
        return self.core.load_owned(self.data + offset, length)

    def store(self, offset: int, data: bytes) -> None:
        """Change bytes of the frame."""
        self._touch(offset, len(data))
        if self.metadata is not None:
            self.metadata.frame_changes()
        self.core.store_owned(self.data + offset, data)

    def _touch(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or self.data + offset + length > self.data_end:
            raise IndexError(
                f"{length!r} bytes at {offset!r} pass the end of a frame of {self.data_end - self.data} bytes"
            )
        stop = self.data + offset + length
        if stop > self.touched:
            lines = -(-stop // LINE) - -(-self.touched // LINE)
            self.core.spend(self.core.device_line, lines)
            self.touched = stop


@dataclass(frozen=True, slots=True)
class XdpProgram:
    """A program.

    Attributes
    ----------
    name : for messages
    run : the program
    operation : primitive of the cost profile that each run is charged; what the program loads and stores comes on top
    single_buffer : it must have each packet whole, in one buffer (a program without ``BPF_F_XDP_HAS_FRAGS``): it gets
        no others, they are dropped and counted, and no headers are split off
    """

    name: str
    run: Callable[[XdpBuff], XdpAction]
    operation: str = "xdp.run"
    single_buffer: bool = True
