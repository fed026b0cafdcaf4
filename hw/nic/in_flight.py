# SPDX-License-Identifier: BSD-2-Clause
"""Which queues have work under way."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class InFlight(wiring.Component):
    """Count each queue's work between its start and its end.

    ``busy`` comes from registers: it rises in the cycle after ``start``, and falls in the third after the last
    ``finish``.

    Parameters
    ----------
    queues : number of queues
    limit : most work of one queue that can be under way; the user guarantees it

    Members
    -------
    start, start_queue, start_count : pieces of work begin
    finish, finish_queue : one piece of work ends
    busy : one bit per queue
    """

    def __init__(self, queues: int, limit: int):
        for name, value in (("queues", queues), ("limit", limit)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"InFlight {name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"InFlight {name} must be at least 1, not {value!r}")
        self._queues = queues
        self._limit = limit
        super().__init__(
            {
                "start": In(1),
                "start_queue": In(range(queues)),
                "start_count": In(range(limit + 1)),
                "finish": In(1),
                "finish_queue": In(range(queues)),
                "busy": Out(queues),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = Array(Signal(range(self._limit + 1), name=f"count_{queue}") for queue in range(self._queues))
        # Starts and ends are counted a cycle later.
        started, finished, started_count = Signal(self._queues), Signal(self._queues), Signal.like(self.start_count)
        m.d.sync += started_count.eq(self.start_count)
        for queue, count in enumerate(counts):
            starts = self.start & (self.start_queue == queue)
            m.d.sync += [
                started[queue].eq(starts),
                finished[queue].eq(self.finish & (self.finish_queue == queue)),
                count.eq(count + Mux(started[queue], started_count, 0) - finished[queue]),
                self.busy[queue].eq(starts | started[queue] | (count != 0)),
            ]
        return m
