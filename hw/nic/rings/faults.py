# SPDX-License-Identifier: BSD-2-Clause
"""Collecting the faults of a ring block's queues."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import QueueError
from hw.config import NicConfig
from hw.nic.interfaces import queue_fault_stream


class QueueFaults(wiring.Component):
    """Remember each queue's first fault, and report it once.

    Of two reports about a queue in one cycle the lower-numbered counts. ``failed`` rises the cycle after the report and
    stays until ``clear``; the fault is offered from the cycle after that, lowest queue first. ``clear`` forgets a fault
    that is not on offer yet.

    Members
    -------
    reports[i].strobe, queue, error : a fault happened
    clear : one bit per queue
    failed : one bit per queue
    faults : queue_fault_stream
    """

    def __init__(self, config: NicConfig, sources: int = 2):
        self._config = config
        report = wiring.Signature({"strobe": In(1), "queue": In(range(config.queues)), "error": In(QueueError)})
        super().__init__(
            {
                "reports": Out(report).array(sources),
                "clear": In(config.queues),
                "failed": Out(config.queues),
                "faults": Out(queue_fault_stream(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        queues = self._config.queues
        errors = Signal(data.ArrayLayout(QueueError, queues))
        waiting = Signal(queues)
        offer = Signal(range(queues))
        with m.If(~self.faults.valid | self.faults.ready):
            m.d.sync += self.faults.valid.eq(waiting.any())
            for q in reversed(range(queues)):
                with m.If(waiting[q]):
                    m.d.comb += offer.eq(q)
            with m.If(waiting.any()):
                m.d.sync += [
                    self.faults.p.queue.eq(offer),
                    self.faults.p.error.eq(errors[offer]),
                    waiting.bit_select(offer, 1).eq(0),
                ]
        for report in reversed(list(self.reports)):
            with m.If(report.strobe & ~self.failed.bit_select(report.queue, 1)):
                m.d.sync += [
                    self.failed.bit_select(report.queue, 1).eq(1),
                    waiting.bit_select(report.queue, 1).eq(1),
                    errors[report.queue].eq(report.error),
                ]
        for q in range(queues):
            with m.If(self.clear[q]):
                m.d.sync += [self.failed[q].eq(0), waiting[q].eq(0)]
        return m
