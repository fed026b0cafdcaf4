# SPDX-License-Identifier: BSD-2-Clause
"""Queues whose buffers recycle in hardware, and queues that send what they received."""

from collections.abc import Callable
from typing import Any

import numpy as np

from driver_model.drivers.ring import TX_DATA, TX_END_OF_PACKET, TX_REPORT
from hw.abi.pools import IDS_PER_RETURN, PoolCommand, PoolState
from sim.line_rate.frames import FrameError
from sim.line_rate.queues import INDEX_MASK, TX, TX_COMPLETION, Direction, Receiver
from sim.line_rate.rings import column

REPORT = 16  #: frames for each completion that a sender asks for
JOIN_LOT = 64  #: buffers that join before all are awaited
POLLS = 1000
_ENABLED: Any = PoolState.ENABLED
_JOIN: Any = PoolCommand.JOIN
_WORD_BITS = 32  #: of a descriptor's type, flags and what lies between
_LOW = TX.fields["type"][0]
_FLAGS = TX.fields["flags"][0] - _LOW


def _recycle(pool: int) -> int:
    return TX.mask("flags", "recycle") << _FLAGS | pool << TX.fields["pool"][0] - _LOW


class PoolReceiver(Receiver):
    """RX of a queue whose buffers are those of the pool with its number: none is ever in the fill ring. What was looked
    at goes back by return registers, four at a time.

    Parameters
    ----------
    read : a register's value, by its offset

    Attributes
    ----------
    first : buffers that join at the start; all, if nothing else is set
    joined : buffers that are the pool's; the others are not used yet
    """

    def __init__(self, *place: Any, read: Callable[[int], int], **more: Any):
        super().__init__(*place, **more)
        self._read = read
        self.first = self._buffers.count
        self.joined = 0
        self._kept: np.ndarray = np.zeros(0, np.int64)  # less than a register's
        self._told = 0  # completions that the NIC knows to have been looked at

    def start(self, mac: int) -> None:
        """Set pool and queue up for frames to this address; the first buffers join."""
        queue = self._registers.queue
        self.pool(control=self._registers.pool["control"].pack(enable=1))
        self._await("status", "state", _ENABLED.value)
        while self.joined < self.first:
            self.join(min(JOIN_LOT, self.first - self.joined))
            self._await("buffers", "joined", self.joined)
        self._await("buffers", "free", self.first)
        self._write(rx_pool=queue["rx_pool"].pack(enable=1, pool=self._queue))
        self._set_up(mac)

    def join(self, count: int) -> None:
        """So many more buffers join, or those that there are."""
        command = self._registers.pool["command"]
        addresses = self._buffers.addresses()[self.joined : self.joined + count] + np.uint64(self._offset)
        for address in addresses.tolist():
            join = command.pack(id=self.joined, length=self._buffers.size, command=_JOIN.value)
            self.pool(buffer_address=address, command=join)
            self.joined += 1

    def give_back(self, ids: np.ndarray) -> None:
        """Buffers are the NIC's again, in lots of four."""
        self._kept = np.concatenate((self._kept, ids))
        lots, rest = np.split(self._kept, [len(self._kept) // IDS_PER_RETURN * IDS_PER_RETURN])
        shifts = np.uint64(16) * np.arange(IDS_PER_RETURN, dtype=np.uint64)
        words = (lots.astype(np.uint64).reshape(-1, IDS_PER_RETURN) << shifts).sum(axis=1, dtype=np.uint64)
        for word in words.tolist():
            self.pool(**{f"return{IDS_PER_RETURN}": word})
        self._kept = rest
        self.acknowledge()

    @property
    def kept(self) -> int:
        """Buffers that wait for others to go back with."""
        return len(self._kept)

    def acknowledge(self) -> None:
        """Tell the NIC which completions were looked at, in lots."""
        if self._completions.consumed - self._told & INDEX_MASK >= self._lot:
            self._told = self._completions.consumed
            self._publish()

    def pool(self, **values: int) -> None:
        """Write registers of the pool, by name."""
        for name, value in values.items():
            self._mailbox.write_register(self._registers.address(name, pool=self._queue), value)

    def _await(self, register: str, field: str, value: int) -> None:
        """Wait until a register of the pool says so."""
        for _ in range(POLLS):
            found = self._registers.pool[register].get(
                self._read(self._registers.address(register, pool=self._queue)), field
            )
            if found == value:
                return
        raise FrameError(f"Pool {self._queue}: {register}.{field} was {found!r} after {POLLS} reads, not {value!r}")


class Forwarder(Direction):
    """TX of a queue that sends each frame from the buffer in which it was received, whatever became of it.

    A receiver without a pool gets its buffers back when a completion says that they were sent; one is asked for with
    every 16th frame. A pool gets them from the NIC itself, and completions are asked for only where the ring does not
    have a descriptor for each buffer: frames then wait for room in it.

    Parameters as of :class:`sim.line_rate.queues.Direction`, whose buffers are the receiver's.

    Attributes
    ----------
    posted : frames so far
    """

    def __init__(self, *place: Any, receiver: Receiver, **more: Any):
        super().__init__(*place, **more)
        self._receiver = receiver
        self._recycles = isinstance(receiver, PoolReceiver)
        self._reports = not self._recycles or self._buffers.count > self._ring.entries
        self._descriptors = self._describe(TX, self._frames.length)
        self._waiting = np.zeros(0, np.int64)  # received, and not posted
        self._where = np.zeros(self._ring.entries, np.int64)  # buffer of each place of the ring
        self._done = 0
        self._published = 0
        self.posted = 0
        receiver.then = self._keep

    def start(self) -> None:
        """Set the queue up."""
        queue = self._registers.queue
        if self._recycles:
            self._write(tx_pools=queue["tx_pools"].pack(pools=1 << self._queue))
        self._write(
            tx_ring_base=self._ring.base + self._offset,
            tx_ring_size=self._ring.entries,
            tx_completion_base=self._completions.base + self._offset,
            tx_completion_size=self._ring.entries,
            tx_control=queue["tx_control"].pack(enable=1),
        )

    def _keep(self, ids: np.ndarray) -> None:
        self._waiting = np.concatenate((self._waiting, ids))

    def _send(self, ids: np.ndarray) -> None:
        """Post what was received."""
        places = (self._ring.produced + np.arange(len(ids))) % self._ring.entries
        descriptors = self._descriptors[ids]
        control = descriptors.view(np.dtype("<u4"))[:, _LOW // _WORD_BITS]
        control[:] = TX_DATA | TX_END_OF_PACKET
        if self._recycles:
            control |= _recycle(self._queue)
        if self._reports:
            control[(self.posted + np.arange(len(ids))) % REPORT == REPORT - 1] |= TX_REPORT
        self._where[places] = ids
        self._ring.post(descriptors)
        self.posted += len(ids)

    def poll(self, *, more: bool = True) -> None:
        """Give back what was sent, and publish what was posted; a last batch that ends before its 16th frame is not
        reported, and stays."""
        entries = self._completions.take()
        if len(entries):
            done = int(column(entries, TX_COMPLETION, "index")[-1])
            count = done - self._done & INDEX_MASK
            if not self._recycles:
                self._receiver.give_back(self._where[(self._done + np.arange(count)) % self._ring.entries])
            self._done = done
        if len(self._waiting):
            room = self._ring.entries
            if self._reports:
                room -= self._ring.produced - self._done & INDEX_MASK
            self._send(self._waiting[:room])
            self._waiting = self._waiting[room:]
        if self._published != self._ring.produced:
            self._published = self._ring.produced
            doorbell = self._registers.queue["tx_doorbell"]
            value = doorbell.pack(producer=self._ring.produced, completion_consumer=self._completions.consumed)
            self._write(tx_doorbell=value)
            if isinstance(self._receiver, PoolReceiver):
                self._receiver.acknowledge()
