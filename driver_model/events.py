# SPDX-License-Identifier: BSD-2-Clause
"""The typed event log of a run: what happened on which core, when, to which packet and buffer, and what it cost."""

from collections.abc import Callable
from typing import NamedTuple


class Event(NamedTuple):
    """One thing that software did.

    The driver's kinds follow a buffer: ``post`` (given to the device), ``receive`` (its completion was read),
    ``verdict`` (``function`` is the XDP program's action), ``send`` (queued for sending), ``clean`` (the device is done
    sending), ``return`` (given back to its strategy). What the device calls the buffer is (``queue``, ``buffer_id``):
    the descriptor's id in ``post`` and ``receive``, its slot in the TX ring in ``send`` and ``clean``.
    """

    time: int  #: picoseconds: the core's time when it began
    core: int  #: index of the core
    context: str  #: ``hardirq``, ``softirq``, the name of the process, or ``idle``
    kind: str  #: ``spend``, ``switch``, ``mmio``, or one of the driver's
    packet: int | None  #: serial of the packet, where known
    buffer: int | None  #: address of the buffer, where known
    function: str  #: name of the operation or function
    cost: int  #: picoseconds charged
    queue: int | None = None  #: index of the queue pair, where there is one
    buffer_id: int | None = None  #: the device's name for the buffer


class EventLog:
    """Collects events of all cores in the order in which software ran.

    A core's log is off (None) by default and then costs nothing: see :attr:`driver_model.cpu.core.Core.log`.

    A cost is logged when it is charged: if an interrupt arrives inside the interval, the handler's events follow with
    an earlier time than the interval's end, and what was spent of the interval beyond it moved behind the handler.

    Parameters
    ----------
    sink : called with each event instead of keeping it in :attr:`events`, for runs too long to keep
    """

    def __init__(self, sink: Callable[[Event], None] | None = None) -> None:
        if sink is not None and not callable(sink):
            raise TypeError(f"sink must be callable or None, not {sink!r}")
        self.events: list[Event] = []
        self._sink = self.events.append if sink is None else sink

    def record(
        self,
        time: int,
        core: int,
        context: str,
        kind: str,
        function: str,
        cost: int = 0,
        *,
        packet: int | None = None,
        buffer: int | None = None,
        queue: int | None = None,
        buffer_id: int | None = None,
    ) -> None:
        """Add one event."""
        self._sink(Event(time, core, context, kind, packet, buffer, function, cost, queue, buffer_id))

    def cost_by_function(self) -> dict[str, int]:
        """Picoseconds charged to each function, by name, of the events that were kept."""
        total: dict[str, int] = {}
        for event in self.events:
            total[event.function] = total.get(event.function, 0) + event.cost
        return dict(sorted(total.items()))
