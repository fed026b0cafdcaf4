# SPDX-License-Identifier: BSD-2-Clause
"""Invalidations that devices must acknowledge (PCIe ATS)."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.config import IommuConfig

TAGS = 32


class DeviceInvalidations(wiring.Component):
    """Sends invalidations to devices and knows which are not acknowledged.

    Tags are given in turn; a new invalidation waits while its tag is in use. One that is not acknowledged within
    ``ats_timeout_cycles`` after it was taken gives its tag back and sets ``timed_out`` (up to ``TAGS`` cycles later).
    Acknowledgements of tags that are not in use, or from another device, are ignored. One that comes later than its
    timeout, after the tags have gone round, counts for the invalidation that has its tag then: software resets a device
    that let one time out.

    Ports
    -----
    send : In, stream
        An invalidation; its ``tag`` does not count.
    invalidate : Out, stream
        Messages to devices.
    invalidated : In, stream
        Messages from devices; always taken.
    waiting : Out
        Some are not acknowledged and have not timed out.
    timed_out : Out
        One timed out since ``forget``.
    forget : In
    """

    def __init__(self, config: IommuConfig):
        self._timeout = config.ats_timeout_cycles
        super().__init__(
            {
                "send": In(stream.Signature(InvalidationRequest)),
                "invalidate": Out(stream.Signature(InvalidationRequest)),
                "invalidated": In(stream.Signature(InvalidationCompletion)),
                "waiting": Out(1),
                "timed_out": Out(1),
                "forget": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # A clock of one bit more than the timeout needs: no age is ever as long as its period.
        clock_bits = self._timeout.bit_length() + 1
        row = data.StructLayout({"since": clock_bits, "device_id": 24})
        m.submodules.sent = sent = Memory(shape=row, depth=TAGS, init=[])
        write = sent.write_port()
        oldest_row, answered_row = sent.read_port(domain="comb"), sent.read_port(domain="comb")

        open_ = Signal(TAGS)
        oldest, following = Signal(range(TAGS)), Signal(range(TAGS))
        now, age = Signal(clock_bits), Signal(clock_bits)
        opened, closed = Signal(TAGS), Signal(TAGS)
        m.d.comb += [
            self.waiting.eq(open_.any()),
            self.send.ready.eq(~open_.bit_select(following, 1) & (~self.invalidate.valid | self.invalidate.ready)),
            write.addr.eq(following),
            write.data.since.eq(now),
            write.data.device_id.eq(self.send.payload.device_id),
            write.en.eq(self.send.valid & self.send.ready),
            oldest_row.addr.eq(oldest),
            answered_row.addr.eq(self.invalidated.payload.tag),
            age.eq(now - oldest_row.data.since),
            self.invalidated.ready.eq(1),
        ]
        m.d.sync += open_.eq((open_ & ~closed) | opened)
        with m.If(self.waiting):
            m.d.sync += now.eq(now + 1)

        with m.If(self.send.valid & self.send.ready):
            m.d.comb += opened.eq(1 << following)
            m.d.sync += [
                self.invalidate.payload.eq(self.send.payload),
                self.invalidate.payload.tag.eq(following),
                self.invalidate.valid.eq(1),
                following.eq(following + 1),
            ]
        with m.Elif(self.invalidate.ready):
            m.d.sync += self.invalidate.valid.eq(0)

        acknowledged, expired = Signal(TAGS), Signal(TAGS)
        m.d.comb += closed.eq(acknowledged | expired)
        with m.If(self.invalidated.valid & (answered_row.data.device_id == self.invalidated.payload.device_id)):
            m.d.comb += acknowledged.eq(1 << self.invalidated.payload.tag)
        with m.If(~self.waiting):
            m.d.sync += oldest.eq(following)
        with m.Elif(~open_.bit_select(oldest, 1)):
            m.d.sync += oldest.eq(oldest + 1)
        with m.If(self.forget):
            m.d.sync += self.timed_out.eq(0)
        with m.If(open_.bit_select(oldest, 1) & (age >= self._timeout) & ~acknowledged.bit_select(oldest, 1)):
            m.d.comb += expired.eq(1 << oldest)
            m.d.sync += self.timed_out.eq(1)
        return m
