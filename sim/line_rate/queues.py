# SPDX-License-Identifier: BSD-2-Clause
"""Both directions of a queue pair, driven in arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from driver_model.drivers.ring import TX_DATA, TX_END_OF_PACKET, TX_REPORT
from hw.abi.codec import Codec
from hw.abi.registers import RegisterMap
from hw.abi.rings import (
    ENTRY_BYTES,
    INDEX_BITS,
    CompletionError,
    FillDescriptor,
    RxCompletion,
    TxCompletion,
    TxDescriptor,
)
from sim.host.mailbox import MailboxClient
from sim.line_rate.frames import FrameError, NumberedFrames
from sim.line_rate.rings import CompletionRing, DescriptorRing, column

FILL, RX_COMPLETION = Codec(FillDescriptor), Codec(RxCompletion)
TX, TX_COMPLETION = Codec(TxDescriptor), Codec(TxCompletion)
_ERRORS = RX_COMPLETION.fields["error"]
_END = RX_COMPLETION.mask("flags", "end_of_packet")
INDEX_MASK = (1 << INDEX_BITS) - 1
DOORBELL_LOT = 32  #: receive buffers that a doorbell gives back, or an eighth of a small ring
_FLAGS_BYTE = RX_COMPLETION.fields["flags"][0] // 8


@dataclass(frozen=True)
class Buffers:
    """Equal buffers in memory.

    Attributes
    ----------
    base : address of the first
    stride : bytes from one to the next
    headroom : bytes of each before the data
    size : bytes of data that each has room for
    count : how many
    """

    base: int
    stride: int
    headroom: int
    size: int
    count: int

    def addresses(self) -> np.ndarray:
        """Where each one's data begins."""
        return self.base + self.headroom + self.stride * np.arange(self.count, dtype=np.uint64)

    def rows(self, memory: np.ndarray) -> np.ndarray:
        """Their data, a row each."""
        whole = memory[self.base : self.base + self.count * self.stride].reshape(self.count, self.stride)
        return whole[:, self.headroom : self.headroom + self.size]


class Direction:
    """A ring of descriptors, one of completions behind it, and buffers.

    Parameters
    ----------
    memory : bytes of host memory
    mailbox, registers, queue : where its registers are
    rings : address of both rings
    buffers : one for each entry of the ring, or, of a pool, any number
    frames : what comes or goes, all of one length
    offset : added to every address to give the device's
    entries : of each ring
    """

    def __init__(
        self,
        memory: np.ndarray,
        mailbox: MailboxClient,
        registers: RegisterMap,
        queue: int,
        rings: int,
        buffers: Buffers,
        frames: NumberedFrames,
        offset: int = 0,
        *,
        entries: int,
    ):
        self._mailbox = mailbox
        self._registers = registers
        self._queue = queue
        self._frames = frames
        self._buffers = buffers
        self._rows = buffers.rows(memory)
        self._ring = DescriptorRing(memory, rings, entries)
        self._completions = CompletionRing(memory, rings + entries * ENTRY_BYTES, entries)
        self._offset = offset

    def _describe(self, codec: Codec, length: int) -> np.ndarray:
        """A descriptor for each buffer, named by its place."""
        entries = np.zeros((self._buffers.count, ENTRY_BYTES), np.uint8)
        column(entries, codec, "address")[:] = self._buffers.addresses() + np.uint64(self._offset)
        column(entries, codec, "length")[:] = length
        column(entries, codec, "buffer_id")[:] = np.arange(len(entries))
        return entries

    def _write(self, **values: int) -> None:
        """Registers of the queue, by name."""
        for name, value in values.items():
            self._mailbox.write_register(self._registers.address(name, self._queue), value)


class Receiver(Direction):
    """RX of a queue. Every buffer is always in the fill ring, on its way, or completed: it goes back as soon as it is
    looked at, if nothing else is to be done with it. As in drivers (i40e: ``I40E_RX_BUFFER_WRITE``, 16 or 32), the
    doorbell tells of a lot of buffers at a time: no read data passes a register write on its way to the device, so each
    doorbell costs its reads some cycles.

    Parameters as of :class:`Direction`.

    Attributes
    ----------
    received : frames so far
    then : what becomes of buffers, named by their places, once they have been looked at
    """

    def __init__(self, *place: Any, **more: Any):
        super().__init__(*place, **more)
        self._pieces = -(-self._frames.length // self._buffers.size)  # buffers of a frame
        self._open = np.zeros(0, np.int64)  # buffers of a frame whose end has not come
        self._last = -1  # number of the last frame
        self.received = 0
        self._descriptors = self._describe(FILL, self._buffers.size)
        self._lot = max(1, min(DOORBELL_LOT, self._ring.entries // 8))
        self._published = 0  # index one past the last descriptor that the NIC was told of
        self.then: Callable[[np.ndarray], None] = self.give_back

    def start(self, mac: int) -> None:
        """Set the queue up for frames to this address, and give it all buffers."""
        self._set_up(mac)
        self._ring.post(self._descriptors)
        self._publish()

    def _set_up(self, mac: int) -> None:
        registers = self._registers.queue
        self._write(
            rx_fill_base=self._ring.base + self._offset,
            rx_fill_size=self._ring.entries,
            rx_completion_base=self._completions.base + self._offset,
            rx_completion_size=self._ring.entries,
            mac_address=registers["mac_address"].pack(address=mac, enable=1),
            rx_control=registers["rx_control"].pack(enable=1),
        )

    def poll(self) -> int:
        """Look at what came, and give the buffers back; how many frames ended.

        Raises :class:`~sim.line_rate.frames.FrameError` for a frame that is not what was sent, or out of order.
        """
        entries = self._completions.take()
        if not len(entries):
            return 0
        errors = _small(entries, _ERRORS)
        if errors.any():
            raise FrameError(f"Queue {self._queue} completed with {CompletionError(int(errors[errors != 0][0]))!r}")
        ids = np.concatenate((self._open, column(entries, RX_COMPLETION, "buffer_id").astype(np.int64)))
        count = len(ids) // self._pieces
        whole, self._open = ids[: count * self._pieces], ids[count * self._pieces :]
        rows = self._rows[whole].reshape(count, -1)[:, : self._frames.length]
        self._check(entries, self._frames.numbers(rows))
        self.received += count
        self.then(column(entries, RX_COMPLETION, "buffer_id").astype(np.int64))
        return count

    def give_back(self, ids: np.ndarray) -> None:
        """Buffers are the NIC's again."""
        self._ring.post(self._descriptors[ids])
        if self._ring.produced - self._published & INDEX_MASK >= self._lot:
            self._publish()

    def _check(self, entries: np.ndarray, numbers: np.ndarray) -> None:
        ends = entries[:, _FLAGS_BYTE] & _END != 0
        length = int(column(entries, RX_COMPLETION, "length")[ends].astype(np.int64).sum())
        last_piece = self._frames.length - (self._pieces - 1) * self._rows.shape[1]
        if int(ends.sum()) != len(numbers) or length != len(numbers) * last_piece:
            raise FrameError(f"Queue {self._queue} completed frames that are not {self._frames.length} bytes long")
        steps = np.diff(np.concatenate(([self._last], numbers)))
        if len(numbers) and (steps <= 0).any():
            raise FrameError(f"Queue {self._queue} got frame {int(numbers[np.argmax(steps <= 0)])} late or twice")
        if (numbers % self._frames.flows % self._frames.queues != self._queue).any():
            raise FrameError(f"Queue {self._queue} got a frame of another queue")
        if len(numbers):
            self._last = int(numbers[-1])

    def _publish(self) -> None:
        doorbell = self._registers.queue["rx_doorbell"]
        self._write(
            rx_doorbell=doorbell.pack(fill_producer=self._ring.produced, completion_consumer=self._completions.consumed)
        )
        self._published = self._ring.produced


class Sender(Direction):
    """TX of a queue: the ring is always full. A completion is asked for with every ``report``-th frame.

    Parameters as of :class:`Direction`; each buffer holds a whole frame.

    Attributes
    ----------
    posted : frames so far
    """

    def __init__(self, *place: Any, report: int = 16, **more: Any):
        super().__init__(*place, **more)
        entries = self._ring.entries
        if entries % report:
            raise ValueError(f"report must divide the ring of {entries}, not {report!r}")
        self._done = 0  # free-running index one past the last descriptor that is ours again
        self.posted = 0
        self._descriptors = self._describe(TX, self._frames.length)
        control = self._descriptors.view(np.dtype("<u4"))[:, TX.fields["type"][0] // 32]
        control[:] = TX_DATA | TX_END_OF_PACKET
        control[report - 1 :: report] |= TX_REPORT

    def start(self) -> None:
        """Set the queue up; nothing is posted yet."""
        self._write(
            tx_ring_base=self._ring.base + self._offset,
            tx_ring_size=self._ring.entries,
            tx_completion_base=self._completions.base + self._offset,
            tx_completion_size=self._ring.entries,
            tx_control=self._registers.queue["tx_control"].pack(enable=1),
        )

    def poll(self, *, more: bool = True) -> None:
        """Take back what was sent, and fill the ring with ``more`` frames."""
        entries = self._completions.take()
        if len(entries):
            self._done = int(column(entries, TX_COMPLETION, "index")[-1])
        room = self._ring.entries - (self._ring.produced - self._done & INDEX_MASK) if more else 0
        if room:
            numbers = self._queue + self._frames.queues * (self.posted + np.arange(room))
            places = (self._ring.produced + np.arange(room)) % self._ring.entries
            self._rows[places] = self._frames.make(numbers)
            self._ring.post(self._descriptors[places])
            self.posted += room
        if room or len(entries):
            doorbell = self._registers.queue["tx_doorbell"]
            value = doorbell.pack(producer=self._ring.produced, completion_consumer=self._completions.consumed)
            self._write(tx_doorbell=value)


def _small(entries: np.ndarray, field: tuple[int, int]) -> np.ndarray:
    """A field inside one byte."""
    offset, width = field
    return entries[:, offset // 8] >> offset % 8 & (1 << width) - 1
