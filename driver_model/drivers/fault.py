# SPDX-License-Identifier: BSD-2-Clause
"""What the driver says about a queue that the device stopped."""

from typing import NamedTuple

from hw.abi.rings import QueueError

_EXPLAINED = {
    QueueError.RING_SIZE: "the ring's size is no power of two in its bounds",
    QueueError.RING_BASE: "the ring is not aligned to a line",
    QueueError.DOORBELL: "a doorbell's index lies beyond the ring",
    QueueError.RING_READ: "memory answered a descriptor fetch with an error",
    QueueError.RING_WRITE: "memory answered a completion write with an error",
    QueueError.DESCRIPTOR_LENGTH: "a descriptor has length 0",
    QueueError.DESCRIPTOR_TYPE: "a descriptor is of a type that does not exist",
    QueueError.IN_PLACE: "the completion ring lies over the fill ring, which a queue with a pool cannot have",
}


class QueueFault(NamedTuple):
    """One direction of a queue pair went to state ERROR."""

    time: int  #: picoseconds at which the driver learned of it
    queue: int
    direction: str  #: ``rx`` or ``tx``
    error: QueueError

    def __str__(self) -> str:
        return (
            f"queue {self.queue} {self.direction} stopped with {self.error.name}: "
            f"{_EXPLAINED.get(self.error, 'no reason given')} (seen at {self.time / 10**6:.3f} us)"
        )
