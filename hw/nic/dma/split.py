# SPDX-License-Identifier: BSD-2-Clause
"""Cutting transfers into AXI bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.axi4 import MAX_BURST_BEATS, PAGE_BYTES
from hw.bus.skid import SkidBuffer

_LENGTH_BITS = 16


class Transfer(data.StructLayout):
    """Any byte ``address``, ``length`` of 1..65535 bytes, and a ``tag`` that all its bursts carry."""

    def __init__(self, tag: object):
        super().__init__({"address": 64, "length": _LENGTH_BITS, "tag": tag})


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
    first_lane, last_lane
        Lanes of the transfer's first and last byte.
    tag
        The transfer's.
    """

    def __init__(self, lane_bits: int, tag: object):
        super().__init__(
            {
                "address": 64,
                "beats": 8,
                "first": 1,
                "last": 1,
                "first_lane": lane_bits,
                "last_lane": lane_bits,
                "tag": tag,
            }
        )


class BurstSplitter(wiring.Component):
    """Cut each transfer at every multiple of ``max_burst_bytes``.

    As that is a power of two up to 4 KiB, no burst crosses a page, and all bursts of a transfer but its first begin
    aligned to ``max_burst_bytes``. One burst a cycle, also across transfers; a transfer's first burst is offered four
    cycles after the transfer was taken. Order is kept. A length of 0 is not allowed. ``bursts`` and its ``ready`` go
    through registers, ``transfers.ready`` comes from two.

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
                "bursts": Out(stream.Signature(BurstOfTransfer(self._lane_bits, tag))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        span, lanes = self._burst_bits, self._lane_bits
        transfer = self.transfers.p
        # Of a transfer's blocks of max_burst_bytes each, LOW numbers those that its length can reach beyond the first:
        # a carry out of it happens at most once.
        low_end = _LENGTH_BITS + 1

        # First stage: where the transfer ends, from the beginning of its first block. A skid buffer is behind it.
        m.submodules.skid = skid = SkidBuffer(
            data.StructLayout({"transfer": transfer.shape(), "end": _LENGTH_BITS + 1})
        )
        measuring, measured, end = skid.input, skid.output.p.transfer, skid.output.p.end
        # Second stage: what is left of it.
        valid, first, last, tops = Signal(), Signal(), Signal(), Signal()
        low, high = Signal(low_end - span + 1), Signal(64 - low_end)
        first_beat, last_beat = Signal(span - lanes), Signal(span - lanes)
        first_lane, last_lane = Signal(lanes), Signal(lanes)
        more = Signal(_LENGTH_BITS + 1 - span)  # blocks behind this one
        tag = Signal.like(transfer.tag)
        # Third stage: the burst, in a skid buffer, so that who takes it is not heard of here.
        m.submodules.output = output = SkidBuffer(self.bursts.p.shape())
        connect(m, output.output, flipped(self.bursts))
        burst, moves, load = output.input.p, output.input.ready, Signal()

        m.d.comb += [
            load.eq(~valid | (moves & last)),
            self.transfers.ready.eq(~measuring.valid | measuring.ready),
            skid.output.ready.eq(load),
        ]
        with m.If(self.transfers.ready):
            m.d.sync += [
                measuring.valid.eq(self.transfers.valid),
                measuring.p.transfer.eq(transfer),
                measuring.p.end.eq(transfer.address[:span] + transfer.length - 1),
            ]
        with m.If(load):
            m.d.sync += [
                valid.eq(skid.output.valid),
                first.eq(1),
                last.eq(end[span:] == 0),
                more.eq(end[span:]),
                low.eq(measured.address[span:low_end]),
                high.eq(measured.address[low_end:]),
                tops.eq(measured.address[low_end:].all()),
                first_beat.eq(measured.address[lanes:span]),
                last_beat.eq(end[lanes:span]),
                first_lane.eq(measured.address[:lanes]),
                last_lane.eq(end[:lanes]),
                tag.eq(measured.tag),
            ]
        with m.Elif(moves):
            m.d.sync += [
                first.eq(0),
                last.eq(more == 1),
                more.eq(more - 1),
                low.eq(low + 1),
                first_beat.eq(0),
            ]
        carried = low[-1]
        m.d.comb += [
            output.input.valid.eq(valid),
            burst.address[lanes:span].eq(first_beat),
            burst.address[span:low_end].eq(Mux(carried & tops, -1, low)),
            burst.address[low_end:].eq(high + (carried & ~tops)),
            burst.beats.eq((Mux(last, last_beat, -1) - first_beat)[: span - lanes]),
            burst.first.eq(first),
            burst.last.eq(last),
            burst.first_lane.eq(first_lane),
            burst.last_lane.eq(last_lane),
            burst.tag.eq(tag),
        ]
        return m
