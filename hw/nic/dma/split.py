# SPDX-License-Identifier: BSD-2-Clause
"""Cutting transfers into AXI bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bus.axi4 import MAX_BURST_BEATS, PAGE_BYTES


class Transfer(data.StructLayout):
    """Any byte ``address``, ``length`` of 1..65535 bytes, and a ``tag`` that all its bursts carry."""

    def __init__(self, tag: object):
        super().__init__({"address": 64, "length": 16, "tag": tag})


class BurstOfTransfer(data.StructLayout):
    """One burst of a transfer.

    Members
    -------
    address : 64
        Address of its first beat, a multiple of the beat.
    beats : 8
        Beats - 1, as AxLEN.
    first, last : 1
        It begins, ends its transfer.
    tag
        The transfer's.
    """

    def __init__(self, tag: object):
        super().__init__({"address": 64, "beats": 8, "first": 1, "last": 1, "tag": tag})


class BurstSplitter(wiring.Component):
    """Cut each transfer at every multiple of ``max_burst_bytes``.

    As that is a power of two up to 4 KiB, no burst crosses a page, and all bursts of a transfer but its first begin
    aligned to ``max_burst_bytes``. One burst a cycle, also across transfers; a transfer's first burst is offered one
    cycle after the transfer was taken. Order is kept. A length of 0 is not allowed.

    A transfer that runs beyond the last address goes on in the last ``max_burst_bytes`` there are: where no memory is,
    it is refused, and does not reach what lies at address 0.

    Parameters
    ----------
    beat_bytes : bytes of a bus beat
    max_burst_bytes : a power of two, beat_bytes..4096 and at most 256 beats
    tag : shape of what is carried along

    Members
    -------
    transfers : stream of Transfer
    bursts : stream of BurstOfTransfer
    """

    def __init__(self, *, beat_bytes: int, max_burst_bytes: int, tag: object):
        if beat_bytes not in (8, 16, 32, 64):
            raise ValueError(f"Beat must be 8, 16, 32 or 64 bytes, not {beat_bytes!r}")
        longest = min(PAGE_BYTES, MAX_BURST_BEATS * beat_bytes)
        if not beat_bytes <= max_burst_bytes <= longest or max_burst_bytes & (max_burst_bytes - 1):
            raise ValueError(
                f"Maximum burst must be a power of two in {beat_bytes}..{longest} bytes, not {max_burst_bytes!r}"
            )
        self._lane_bits = exact_log2(beat_bytes)
        self._burst_bits = exact_log2(max_burst_bytes)
        super().__init__(
            {
                "transfers": In(stream.Signature(Transfer(tag))),
                "bursts": Out(stream.Signature(BurstOfTransfer(tag))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes, span = self._lane_bits, self._burst_bits
        burst = self.bursts.p
        rest = Signal.like(self.transfers.p)
        first = Signal()
        to_boundary = Signal(span + 1)
        size = Signal(span + 1)
        end = Signal(span + 1)
        m.d.comb += [
            to_boundary.eq((1 << span) - rest.address[:span]),
            burst.last.eq(rest.length <= to_boundary),
            burst.first.eq(first),
            size.eq(Mux(burst.last, rest.length, to_boundary)),
            end.eq(rest.address[:span] + size - 1),
            burst.beats.eq(end[lanes:] - rest.address[lanes:span]),
            burst.address[lanes:].eq(rest.address[lanes:]),
            burst.tag.eq(rest.tag),
            self.transfers.ready.eq(~self.bursts.valid | (burst.last & self.bursts.ready)),
        ]
        with m.If(self.bursts.ready):
            m.d.sync += [
                first.eq(0),
                rest.length.eq(rest.length - size),
                rest.address[span:].eq(rest.address[span:] + ~rest.address[span:].all()),
                rest.address[:span].eq(0),
            ]
        with m.If(self.transfers.ready):
            m.d.sync += [self.bursts.valid.eq(self.transfers.valid), rest.eq(self.transfers.p), first.eq(1)]
        return m
