# SPDX-License-Identifier: BSD-2-Clause
"""Numbered frames of one length, as arrays."""

import numpy as np

from sim.traffic.flows import SEQUENCE, UDP_CHECKSUM, Flows

_SEQUENCE_TYPE = np.dtype(">u8")
_CHECKSUM_TYPE = np.dtype(">u2")


class NumberedFrames:
    """UDP frames of one length, whose number tells their flow and all of their bytes.

    Parameters
    ----------
    length : bytes without FCS
    flows : frame *n* belongs to flow *n* mod ``flows``
    queues : flow *i* is addressed to queue *i* mod ``queues``
    seed : of the payload
    """

    def __init__(self, length: int, *, flows: int = 1, queues: int = 1, seed: int = 0):
        source = Flows(flows, queues, seed)
        self.length = length
        self.flows = flows
        self.queues = queues
        frames = [np.frombuffer(source.frame(flow, length, 0), np.uint8) for flow in range(flows)]
        self._templates = np.stack(frames)
        # Sums without the sequence number, to which a frame's own is added (RFC 1624, equation 3).
        self._sums = ~self._templates[:, UDP_CHECKSUM].view(_CHECKSUM_TYPE)[:, 0].astype(np.uint64) & np.uint64(0xFFFF)

    def make(self, numbers: np.ndarray) -> np.ndarray:
        """The frames with these numbers, a row each."""
        numbers = numbers.astype(np.uint64)
        flows = numbers % np.uint64(self.flows)
        rows = self._templates[flows]
        rows[:, SEQUENCE] = numbers.astype(_SEQUENCE_TYPE)[:, None].view(np.uint8)
        total = self._sums[flows]
        for shift in (0, 16, 32, 48):
            total = total + (numbers >> np.uint64(shift) & np.uint64(0xFFFF))
        for _ in range(2):
            total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
        checksums = ~total & np.uint64(0xFFFF)
        checksums[checksums == 0] = 0xFFFF
        rows[:, UDP_CHECKSUM] = checksums.astype(_CHECKSUM_TYPE)[:, None].view(np.uint8)
        return rows

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of frames, as their bytes tell. Raises :class:`FrameError` if any byte is not that frame's."""
        found = np.ascontiguousarray(rows[:, SEQUENCE]).view(_SEQUENCE_TYPE)[:, 0].astype(np.int64)
        wrong = (self.make(found) != rows).any(axis=1)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise FrameError(
                f"A frame numbered {found[first]} has bytes that are not its own: {bytes(rows[first]).hex()}"
            )
        return found


class FrameError(Exception):
    """A frame was damaged, lost, doubled or out of order."""
