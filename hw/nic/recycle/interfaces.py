# SPDX-License-Identifier: BSD-2-Clause
"""Interfaces between the blocks of recycling."""

from amaranth.hdl import Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import BufferState, PoolCommand, RecycleError, RecycleSource
from hw.abi.rings import BUFFER_ID_BITS, FillDescriptor
from hw.config import NicConfig
from hw.nic.register_set import pool_registers

POOL_BITS = 4  #: of a pool's number as software names it


class PoolWrite(wiring.Signature):
    """Broadcast of an accepted software write to a pool's page; receivers cannot refuse. As
    :class:`hw.nic.interfaces.QueueWrite`, and never in one cycle with one of those.

    Members
    -------
    at : one bit for each writable register of the page, by its name
    pool, data : whose page, and the word; bits that do not exist are 0
    """

    def __init__(self, config: NicConfig):
        writable = [name for name, register in pool_registers(config).items() if register.writable]
        super().__init__(
            {
                "at": Out(data.StructLayout(dict.fromkeys(writable, 1))),
                "pool": Out(range(config.pools)),
                "data": Out(64),
            }
        )


class BufferName(data.StructLayout):
    """A buffer of a pool that exists, by an id that can be."""

    def __init__(self, config: NicConfig):
        super().__init__({"pool": range(config.pools), "id": range(config.pool_buffers)})


class BufferEvent(wiring.Signature):
    """Something happened to a buffer: ``strobe`` for one cycle with its ``buffer``; the receiver cannot refuse."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "buffer": Out(BufferName(config))})


class PoolEvent(wiring.Signature):
    """Something happened to ``count`` buffers of a pool: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig, most: int = 1):
        super().__init__({"strobe": Out(1), "pool": Out(range(config.pools)), "count": Out(range(most + 1))})


def count_bits(config: NicConfig) -> int:
    """Bits of a number of buffers. The greatest that has so many, :func:`at_most`, is more than a pool has."""
    return config.pool_buffers.bit_length()


def at_most(value: Value, bits: int) -> Value:
    """``value``, or the greatest number of so many bits if that is less."""
    return value[:bits] | value[bits:].any().replicate(bits)


class PoolBounds(wiring.Signature):
    """The limit and the resume level in force of a pool, which is that pool's *visit*: ``strobe`` for one cycle, once
    for each pool in every :data:`VISIT_CYCLES`, whether they changed or not.

    ``limit``: most buffers that may be outstanding or ahead together; 0: any number. ``resume``: the loop opens when no
    more are outstanding.
    """

    def __init__(self, config: NicConfig):
        bits = count_bits(config)
        super().__init__({"strobe": Out(1), "pool": Out(range(config.pools)), "limit": Out(bits), "resume": Out(bits)})


VISIT_CYCLES = 16  #: from one visit of a pool to the next


class Claim(data.StructLayout):
    """Somebody hands a buffer back, and must be shown to be its owner.

    Members
    -------
    pool, id : as software named them, so they may be any
    queue : whose descriptor it was; it does not count for source RETURN
    source : who: RETURN, FILL or TRANSMIT
    error : NONE; otherwise it must not be granted, for this reason, and is only to be told of
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "pool": POOL_BITS,
                "id": BUFFER_ID_BITS,
                "queue": range(config.queues),
                "source": RecycleSource,
                "error": RecycleError,
            }
        )


def claim_stream(config: NicConfig) -> stream.Signature:
    """Claims, in order."""
    return stream.Signature(Claim(config))


class Verdict(wiring.Signature):
    """What became of a claim: ``strobe`` for one cycle with the ``claim``, and ``error``, NONE if it is granted."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "claim": Out(Claim(config)), "error": Out(RecycleError)})


class BufferRequest(data.StructLayout):
    """Something is to be done to a buffer, or to be known of it: ``operation`` JOIN, REMOVE or QUERY, and ``id`` as
    software named it."""

    def __init__(self, config: NicConfig):
        super().__init__({"operation": PoolCommand, "pool": range(config.pools), "id": BUFFER_ID_BITS})


class RequestPort(wiring.Signature):
    """Requests, seen from who has them: one at a time, the next only after the ``answer``, which comes for each in one
    cycle of ``strobe``: ``error``, NONE if it was done, and the buffer's ``state`` before."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "request": Out(stream.Signature(BufferRequest(config))),
                "answer": In(
                    wiring.Signature({"strobe": Out(1), "error": Out(RecycleError), "state": Out(BufferState)})
                ),
            }
        )


class TakePort(wiring.Signature):
    """Software takes free buffers, seen from the commands: one request at a time, for a buffer of the ``pool``, and for
    each in one cycle of ``strobe`` the ``id`` that is out now, or ``empty``: none was free."""

    def __init__(self, config: NicConfig):
        answer = wiring.Signature({"strobe": Out(1), "empty": Out(1), "id": Out(range(config.pool_buffers))})
        super().__init__(
            {"request": Out(stream.Signature(data.StructLayout({"pool": range(config.pools)}))), "answer": In(answer)}
        )


class ReturnedBuffer(data.StructLayout):
    """A buffer that a fill descriptor of ``queue`` hands back, by its ``buffer_id`` there."""

    def __init__(self, config: NicConfig):
        super().__init__({"queue": range(config.queues), "buffer_id": BUFFER_ID_BITS})


class SuppliedBuffer(data.StructLayout):
    """An empty buffer for ``queue``, as if its ``entry`` had been fetched from the fill ring."""

    def __init__(self, config: NicConfig):
        super().__init__({"queue": range(config.queues), "entry": FillDescriptor})


class DeliveredBuffer(wiring.Signature):
    """A filled buffer of ``queue`` has been handed over for software to see: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "queue": Out(range(config.queues)), "buffer_id": Out(BUFFER_ID_BITS)})
