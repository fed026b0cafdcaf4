# SPDX-License-Identifier: BSD-2-Clause
"""Pools of buffers that recycle in hardware: what their registers and descriptors mean.

A buffer joins a pool once, with its address; from then on its pool-relative id names it. It is then either with the
NIC, which has it on its recycle FIFO, fills it, or sends it, or it is *out*: software learned of it by a completion, or
took it. Software hands it back by one of three ways: a return register, a fill descriptor, or a TX descriptor marked
``recycle``, which hands it back when its bytes have been read. Only a buffer that is out can be handed back, and only
once: everything else is refused, counted, and the first of it recorded in register MISUSE.
"""

from amaranth.lib import enum

MAX_POOLS = 16
MAX_POOL_BUFFERS = 1 << 16
IDS_PER_RETURN = 4  #: registers RETURN1 to RETURN4 hand back one to four buffers at once


class PoolState(enum.Enum, shape=2):
    """The lifecycle of a pool, in POOL_STATUS."""

    DISABLED = 0  #: nothing has joined
    CLEARING = 1  #: was enabled, and forgets all of before: for a few cycles more than it has ids
    ENABLED = 2
    DRAINING = 3  #: was disabled: no buffer goes to RX any more, and when none is out, all are forgotten


class PoolCommand(enum.Enum, shape=4):
    """Commands of register COMMAND."""

    NONE = 0  #: no command; refused, as all codes that are not here
    JOIN = 1  #: the buffer at BUFFER_ADDRESS, of ``length`` bytes, joins as ``id``, and is free at once
    REMOVE = 2  #: ``id``, which is out, is no buffer of the pool any more
    TAKE = 3  #: a free buffer is out from now on; RESULT has its id
    QUERY = 4  #: RESULT tells of ``id``
    OVERDUE = 5  #: RESULT tells of the first buffer from ``id`` on that has been out for longer than OVERDUE_BOUND


class BufferState(enum.Enum, shape=2):
    """Where a buffer is, in register RESULT."""

    NONE = 0  #: no buffer of that id has joined
    NIC = 1  #: free, held for a queue, being filled, or to be sent
    OUT = 2  #: software's


class RecycleSource(enum.Enum, shape=3):
    """Who hands a buffer back, in register MISUSE."""

    RETURN = 0  #: a return register
    FILL = 1  #: a fill descriptor
    TRANSMIT = 2  #: a TX descriptor marked ``recycle``
    COMMAND = 3  #: register COMMAND


class RecycleError(enum.Enum, shape=4):
    """Why something was refused, in registers RESULT and MISUSE."""

    NONE = 0
    POOL = 1  #: there is no such pool, it is not enabled (for all but JOIN and TAKE: nor draining), or TX_POOLS of the
    #: queue does not name it
    RANGE = 2  #: no buffer can have that id
    UNKNOWN = 3  #: no buffer of that id has joined
    NOT_OUT = 4  #: it is with the NIC: handed back a second time, or never handed out
    SEGMENT = 5  #: ``recycle`` together with ``segment``
    JOINED = 6  #: JOIN of an id that has joined already
    LENGTH = 7  #: JOIN of a buffer without bytes
    EMPTY = 8  #: TAKE, and none is free; OVERDUE, and none is. No misuse
    COMMAND = 9  #: there is no such command
