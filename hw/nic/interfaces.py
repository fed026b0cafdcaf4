# SPDX-License-Identifier: BSD-2-Clause
"""Interfaces between the NIC's blocks.

A *direction* is one half of a queue pair, RX or TX. Each block that holds state per queue listens to the same broadcast
of register writes, obeys the same enable bits, and reports the same busy bits; :mod:`hw.nic.lifecycle` alone decides
what state a direction is in.
"""

from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import MAX_POOLS
from hw.abi.rings import (
    BUFFER_ID_BITS,
    ENTRY_BYTES,
    INDEX_BITS,
    AddressType,
    QueueError,
)
from hw.config import NicConfig
from hw.nic.register_set import queue_registers


class QueueWrite(wiring.Signature):
    """Broadcast of an accepted software write to a queue pair's page; receivers cannot refuse.

    Writes come at least :data:`WRITE_CYCLES` apart, and all members from registers.

    Members
    -------
    at : one bit for each writable register of the page, by its name
        High for one cycle: that register is written; at most one is. Doorbells count only while their direction is
        ENABLED.
    queue, data : in that cycle
        Whose page, and the word; bits that do not exist are 0.
    """

    def __init__(self, config: NicConfig):
        writable = [name for name, register in queue_registers(config).items() if register.writable]
        super().__init__(
            {
                "at": Out(data.StructLayout(dict.fromkeys(writable, 1))),
                "queue": Out(range(config.queues)),
                "data": Out(64),
            }
        )


#: Cycles from one register write that a NIC's blocks hear to the next, at least.
WRITE_CYCLES = 5


class QueueControl(wiring.Signature):
    """From lifecycle to each block of one direction; one bit per queue.

    ``enable``: the queue takes new work. ``clear``: for one cycle, when the queue is started; all its indices and
    caches return to zero (``enable`` rises in the next cycle). ``busy`` (from the block): DMA of this queue is planned,
    under way or without response in this block. With ``enable`` low, a block finishes what it began, issues nothing new
    and lets ``busy`` fall.
    """

    def __init__(self, config: NicConfig):
        super().__init__({"enable": Out(config.queues), "clear": Out(config.queues), "busy": In(config.queues)})


def queue_fault_stream(config: NicConfig) -> stream.Signature:
    """Report that a queue must stop: ``queue`` and ``error`` (:class:`hw.abi.rings.QueueError`)."""
    return stream.Signature(data.StructLayout({"queue": range(config.queues), "error": QueueError}))


class Command(data.StructLayout):
    """A transfer to or from memory: any byte address, 1..65535 bytes, on behalf of a queue (whose context gives the
    AXI sideband).

    Only where ``config.ats``: ``address_type``, an :class:`hw.abi.rings.AddressType`; and ``named``: it is to or from
    the buffer ``buffer_id`` of ``pool``, whose translation may take the address's place on the way to the DMA.
    """

    def __init__(self, config: NicConfig):
        members: dict[str, ShapeLike] = {"address": 64, "length": 16, "queue": range(config.queues)}
        if config.ats:
            members |= {"address_type": AddressType, "named": 1, "pool": range(MAX_POOLS), "buffer_id": BUFFER_ID_BITS}
        super().__init__(members)


class Bytes(data.StructLayout):
    """A beat of a transfer's bytes, from lane 0 whatever the address: ``count`` valid bytes, all beats but the last
    full. ``error`` (reads): with ``last``, some byte of the transfer could not be read."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {"data": config.data_width, "count": range(config.beat_bytes + 1), "last": 1, "error": 1},
        )


class WritePort(wiring.Signature):
    """A client of :class:`hw.nic.dma.write.DmaWriter`, seen from the client.

    Each ``command`` is followed by exactly its bytes on ``data``, which a client must be able to deliver without
    waiting for anything but ``ready`` (best at one beat a cycle). ``done`` comes once per command, in order, after all
    of the command's AXI write responses: ``error`` if one was not OKAY. A client takes it at once, whatever else it
    waits for: a response that waits could hold up the very write that it waits for. All clients' writes enter the one
    AXI write channel in the order in which their commands were accepted.
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "command": Out(stream.Signature(Command(config))),
                "data": Out(stream.Signature(Bytes(config))),
                "done": In(stream.Signature(data.StructLayout({"error": 1}))),
            }
        )


class ReadPort(wiring.Signature):
    """A client of :class:`hw.nic.dma.read.DmaReader`, seen from the client.

    Bytes come back on ``data`` in the order of the commands, realigned to lane 0 for each command; several commands may
    be under way. A client issues a command only if it can take all of its bytes: ``ready`` on ``data`` may pause but
    not wait for anything that depends on another client's read.
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "command": Out(stream.Signature(Command(config))),
                "data": In(stream.Signature(Bytes(config))),
            }
        )


class DescriptorArrival(wiring.Signature):
    """A descriptor of ``queue`` has come into the cache: ``strobe`` for one cycle with the ``entry``; the receiver
    cannot refuse."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues)), "entry": Out(8 * ENTRY_BYTES)})


class DescriptorTake(wiring.Signature):
    """The next ``count`` descriptors of ``queue`` leave the cache on the clock edge with ``strobe``."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {"strobe": Out(1), "queue": Out(range(config.queues)), "count": Out(range(config.fetch_depth + 1))}
        )


class DescriptorPort(wiring.Signature):
    """Descriptors of one direction, seen from the consumer (RX planner, TX scheduler).

    The consumer counts what has arrived and what it took, and so knows what is available; ``clear`` of
    :class:`QueueControl` resets both sides.

    Members
    -------
    arrived : to the consumer
        A descriptor has become available, in ring order, at most one a cycle. It can be read from the next cycle on.
    read_enable, read_queue, read_index : to the cache
        Read the queue's descriptor ``read_index``: the low bits of its free-running ring index.
    entry : to the consumer
        The descriptor that was asked for two cycles with ``read_enable`` ago: block RAM, then a register, which both
        hold while ``read_enable`` is low.
    take : to the cache
        Descriptors leave, in ring order; from a register of the consumer.
    fetching : to the consumer
        One bit per queue: descriptors of the queue are still to arrive without software's doing, as posted ones were
        requested, or are due and have room for a whole line, or as recycled buffers are to be supplied. It does not
        fall before the cycle after the last ``arrived``, and tells of the room that a ``take`` makes
        :data:`FETCHING_DELAY` cycles later at the latest.
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "arrived": In(DescriptorArrival(config)),
                "read_enable": Out(1),
                "read_queue": Out(range(config.queues)),
                "read_index": Out(range(config.fetch_depth)),
                "entry": In(8 * ENTRY_BYTES),
                "take": Out(DescriptorTake(config)),
                "fetching": In(config.queues),
            }
        )


#: Cycles from a ``take`` of a :class:`DescriptorPort` to the first in which ``fetching`` tells of it.
FETCHING_DELAY = 4


class CompletionPort(wiring.Signature):
    """Completions of one direction, seen from the producer.

    Members
    -------
    free : to the producer, an array
        Completion slots of each queue that are neither reserved nor unread by software (16-bit counts), from registers.
        Each count is exact from the cycle after a ``reserve``, and grows a few cycles after software's doorbell.
    reserve, reserve_queue, reserve_count : to the writer
        On the clock edge with ``reserve``, that many slots of the queue are set aside; at most ``free``.
    entry : stream
        A completion for a reserved slot: ``queue`` and the 128-bit ``entry``, whose phase bit the writer fills in.
        Entries of one queue are written in the order given; an entry is offered only after the DMA ``done`` of all its
        bytes.
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "free": In(data.ArrayLayout(INDEX_BITS, config.queues)),
                "reserve": Out(1),
                "reserve_queue": Out(range(config.queues)),
                "reserve_count": Out(INDEX_BITS),
                "entry": Out(
                    stream.Signature(data.StructLayout({"queue": range(config.queues), "entry": 8 * ENTRY_BYTES}))
                ),
            }
        )


class CompletionSlots(wiring.Signature):
    """The reserving half of a :class:`CompletionPort`, for a block that reserves while another hands over entries."""

    def __init__(self, config: NicConfig):
        members = CompletionPort(config).members
        super().__init__({name: member for name, member in members.items() if name != "entry"})


class Published(wiring.Signature):
    """Completions of a queue became visible to software (their write was acknowledged): ``strobe`` for one cycle with
    the ``queue``, and ``producer``, the free-running index one past the last visible completion, and ``count``, how
    many were new."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "strobe": Out(1),
                "queue": Out(range(config.queues)),
                "producer": Out(INDEX_BITS),
                "count": Out(3),
            }
        )


class TracePoint(wiring.Signature):
    """Simulation-only: something happened to the frame ``serial``; ``detail`` is a buffer id or a drop reason. The NIC
    has trace points only where ``serial_width`` is not 0."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "strobe": Out(1),
                "serial": Out(config.serial_width),
                "queue": Out(range(config.queues)),
                "detail": Out(16),
            }
        )
