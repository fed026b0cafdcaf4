# SPDX-License-Identifier: BSD-2-Clause
"""What is counted: the fate of every frame."""

from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.abi.rings import CompletionError, DropReason
from hw.config import NicConfig


class RxFrameEvent(wiring.Signature):
    """One frame's fate at RX, for the port's counters: ``strobe`` for one cycle with length, kind of destination and,
    if ``dropped``, the reason (a port reason of :class:`hw.abi.rings.DropReason`)."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "strobe": Out(1),
                "length": Out(16),
                "multicast": Out(1),
                "broadcast": Out(1),
                "dropped": Out(1),
                "reason": Out(DropReason),
            }
        )


class TxFrameEvent(wiring.Signature):
    """One frame left towards the wire, for the port's counters."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "length": Out(16), "multicast": Out(1), "broadcast": Out(1)})


class QueueRxEvent(wiring.Signature):
    """One steered frame's fate, for its queue's counters: delivered (all completions handed to the completion writer;
    ``fault`` if one carries WRITE_FAULT), or ``dropped`` with a queue reason. ``length`` of a delivered frame is that
    on the wire, of a dropped one that in the packet buffer."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "strobe": Out(1),
                "queue": Out(range(config.queues)),
                "length": Out(16),
                "fault": Out(1),
                "dropped": Out(1),
                "reason": Out(DropReason),
            }
        )


class QueueTxEvent(wiring.Signature):
    """One frame of a TX ring: sent whole (``error`` NONE, not ``aborted``), not sent with the error of its completion,
    or ``aborted`` because its queue stopped."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "strobe": Out(1),
                "queue": Out(range(config.queues)),
                "length": Out(16),
                "error": Out(CompletionError),
                "aborted": Out(1),
            }
        )
