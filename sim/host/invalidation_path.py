# SPDX-License-Identifier: BSD-2-Clause
"""The way of an IOMMU's invalidations to a device behind the link, and of their completions back."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from sim.host.lane import PLACE_BITS
from sim.host.link import ANSWER_BITS, MESSAGE_BITS

DEPTH = 64  #: messages under way


class InvalidationPath(wiring.Component):
    """Sits at both ends of the link: makes messages of invalidation requests and completions, and keeps a request
    behind read data.

    An IOMMU offers a request when it has handed over all answers to translation requests that it is about. The device
    gets it when it has taken the last beat of every read that was handed to the link before: PCIe would let a message
    pass completions and leave it to the device to throw away what comes late; here it never comes late. A completion
    of the device, in turn, leaves the link when memory has acknowledged every write that entered it before: so what was
    written with the translation is in memory when the IOMMU has it. Reads are the device's own part: it acknowledges
    when it has their data. Latency: the link's, and none of its own.

    Ports
    -----
    invalidate, invalidated : streams from and to the IOMMU
    host_message, host_answer, device_message, device_answer : of :class:`sim.host.link.HostLink`
    device_invalidate, device_invalidated : streams to and from the device
    handed, taken : the last beat of a read is handed to the link; the device takes one; of each at most one a cycle
    """

    def __init__(self) -> None:
        request, completion = stream.Signature(InvalidationRequest), stream.Signature(InvalidationCompletion)
        message, answer = stream.Signature(MESSAGE_BITS), stream.Signature(ANSWER_BITS)
        super().__init__(
            {
                "invalidate": In(request),
                "invalidated": Out(completion),
                "host_message": Out(message),
                "host_answer": In(answer),
                "device_message": In(message),
                "device_answer": Out(answer),
                "device_invalidate": Out(request),
                "device_invalidated": In(completion),
                "handed": In(1),
                "taken": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        handed, taken = Signal(PLACE_BITS), Signal(PLACE_BITS)
        m.d.sync += [handed.eq(handed + self.handed), taken.eq(taken + self.taken)]

        m.submodules.places = places = SyncFIFO(width=PLACE_BITS, depth=DEPTH)
        ahead = Signal(PLACE_BITS)  # as a signed number: reads that the device still has to take
        behind = Signal()
        m.d.comb += [
            self.host_message.payload.eq(self.invalidate.payload.as_value()),
            self.host_message.valid.eq(self.invalidate.valid & places.w_rdy),
            self.invalidate.ready.eq(self.host_message.ready & places.w_rdy),
            places.w_data.eq(handed),
            places.w_en.eq(self.invalidate.valid & self.invalidate.ready),
            ahead.eq(places.r_data - taken),
            behind.eq(places.r_rdy & ((ahead == 0) | ahead[-1])),
            self.device_invalidate.payload.as_value().eq(self.device_message.payload),
            self.device_invalidate.valid.eq(self.device_message.valid & behind),
            self.device_message.ready.eq(self.device_invalidate.ready & behind),
            places.r_en.eq(self.device_invalidate.valid & self.device_invalidate.ready),
        ]
        m.d.comb += [
            self.device_answer.payload.eq(self.device_invalidated.payload.as_value()),
            self.device_answer.valid.eq(self.device_invalidated.valid),
            self.device_invalidated.ready.eq(self.device_answer.ready),
            self.invalidated.payload.as_value().eq(self.host_answer.payload),
            self.invalidated.valid.eq(self.host_answer.valid),
            self.host_answer.ready.eq(self.invalidated.ready),
        ]
        return m
