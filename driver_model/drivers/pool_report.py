# SPDX-License-Identifier: BSD-2-Clause
"""What a hardware pool tells about itself, for programs and for people."""

from types import MappingProxyType
from typing import NamedTuple

from driver_model.drivers.device import DeviceError
from hw.abi.pools import BufferState, PoolState, RecycleError, RecycleSource

TAKEN = 255  #: in place of a queue's number: software took the buffer, or no descriptor named it
TICK_CYCLES = 1024  #: hardware cycles of a unit of age

WHY = MappingProxyType(
    {
        RecycleError.POOL: "the pool is not enabled, or the queue may not hand buffers back to it",
        RecycleError.RANGE: "no buffer can have that id",
        RecycleError.UNKNOWN: "no buffer of that id has joined",
        RecycleError.NOT_OUT: "the NIC has it: it was handed back a second time, or never handed out",
        RecycleError.SEGMENT: "a TCP segmentation request cannot be recycled",
        RecycleError.JOINED: "a buffer of that id has joined already",
        RecycleError.LENGTH: "it has no bytes",
        RecycleError.EMPTY: "there is none",
        RecycleError.COMMAND: "there is no such command",
    }
)
_BY = MappingProxyType(
    {
        RecycleSource.RETURN: "a return register",
        RecycleSource.FILL: "a fill descriptor",
        RecycleSource.TRANSMIT: "a TX descriptor",
        RecycleSource.COMMAND: "a command",
    }
)


class PoolError(DeviceError):
    """The device refused a command about a pool."""

    def __init__(self, message: str, error: RecycleError) -> None:
        super().__init__(message)
        self.error = error


class BufferReport(NamedTuple):
    """What register RESULT says of a buffer: ``state`` as :class:`hw.abi.pools.BufferState`, and of one that is out who
    was given it (a queue's number, or :data:`TAKEN`), and for how many :data:`TICK_CYCLES`."""

    id: int
    state: BufferState
    queue: int
    age: int

    def __str__(self) -> str:
        if self.state is not BufferState.OUT:
            where = "with the NIC" if self.state is BufferState.NIC else "no buffer of the pool"
            return f"buffer {self.id}: {where}"
        who = "taken by software" if self.queue == TAKEN else f"out by queue {self.queue}"
        return f"buffer {self.id}: {who} for {self.age * TICK_CYCLES} cycles"


class MisuseReport(NamedTuple):
    """The first hand-back or command of a pool that was refused, and how many were since the pool was enabled."""

    pool: int
    error: RecycleError
    source: RecycleSource
    id: int
    queue: int
    refused: int

    def __str__(self) -> str:
        by = _BY[self.source] + ("" if self.queue == TAKEN else f" of queue {self.queue}")
        why = WHY.get(self.error, self.error.name)
        return f"Pool {self.pool} refused buffer {self.id} from {by}: {why} ({self.refused} refused in all)"


class PoolCounts(NamedTuple):
    """How a pool's buffers are spread, and its feedback loop."""

    state: PoolState
    closed: bool
    free: int
    joined: int
    outstanding: int
    ahead: int
    limit: int
    closings: int
