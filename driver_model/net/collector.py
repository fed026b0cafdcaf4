# SPDX-License-Identifier: BSD-2-Clause
"""The consumer of frames that pass: checks that each is one that was sent, whole, and in order."""

from collections.abc import Sequence
from typing import Any, Protocol

from driver_model.net.xdp_metadata import XdpMetadata

LINE = 64  #: bytes of a cache line; the collector is the first to touch each


class Source(Protocol):
    """What frames come from: a queue pair of the driver."""

    index: int
    core: Any

    def release(self, buffer: Any) -> None:
        """Take a buffer back."""


class CollectorError(AssertionError):
    """A frame came out of the driver that should not have."""


class Collector:
    """Takes ``(buffer, offset, length)`` fragments from the driver, behind headers that were split off, compares, and
    releases the buffers at once.

    Frames may be missing, because hardware drops; those skipped are counted in ``missing`` as soon as a later one
    comes. A frame that was not sent, was changed, comes twice or out of order raises :class:`CollectorError`.

    Parameters
    ----------
    expected : for each queue, the frames sent to it, in order

    Attributes
    ----------
    received : frames received, for each queue
    """

    def __init__(self, expected: Sequence[Sequence[bytes]]) -> None:
        self._expected = expected
        self._next = [0] * len(expected)
        self.received = [0] * len(expected)

    @property
    def missing(self) -> list[int]:
        """Frames that later ones have overtaken, for each queue."""
        return [done - received for done, received in zip(self._next, self.received, strict=True)]

    def __call__(
        self, queue: Source, fragments: Sequence[tuple[Any, int, int]], metadata: XdpMetadata | None = None
    ) -> None:
        """Take one frame; of its metadata only headers that lie apart count."""
        core = queue.core
        load = core.load_owned
        pieces = [(buffer.address + offset, length) for buffer, offset, length in fragments]
        if metadata is not None and metadata.header is not None:
            pieces.insert(0, metadata.header)
        core.spend(core.device_line, sum(-(-length // LINE) for _, length in pieces))
        frame = b"".join([load(address, length) for address, length in pieces])
        for buffer, _, _ in fragments:
            queue.release(buffer)
        self.check(queue.index, frame)

    def check(self, index: int, frame: bytes) -> None:
        """Compare one frame."""
        if not 0 <= index < len(self._expected):
            raise CollectorError(f"A frame of {len(frame)} bytes came from queue {index}, to which none was sent")
        expected = self._expected[index]
        at = self._next[index]
        if at >= len(expected) or expected[at] != frame:
            at = self._find(index, frame)
        self._next[index] = at + 1
        self.received[index] += 1

    def _find(self, index: int, frame: bytes) -> int:
        expected, start = self._expected[index], self._next[index]
        for at in range(start, len(expected)):
            if expected[at] == frame:
                return at
        for at in range(start - 1, -1, -1):
            if expected[at] == frame:
                raise CollectorError(f"Queue {index}: frame {at} came again or late, after frame {start - 1}")
        raise CollectorError(f"Queue {index}: {self._difference(expected, start, frame)}")

    @staticmethod
    def _difference(expected: Sequence[bytes], start: int, frame: bytes) -> str:
        same = [at for at in range(start, len(expected)) if len(expected[at]) == len(frame)]
        if not same:
            return f"a frame of {len(frame)} bytes came that was not sent after frame {start - 1}"

        def wrong(at: int) -> int:
            return sum(a != b for a, b in zip(expected[at], frame, strict=True))

        best = min(same, key=wrong)
        where = next(i for i, (a, b) in enumerate(zip(expected[best], frame, strict=True)) if a != b)
        return (
            f"frame {best} of {len(frame)} bytes was changed: {wrong(best)} bytes differ, the first at {where} "
            f"({expected[best][where]:#04x} sent, {frame[where]:#04x} received)"
        )
