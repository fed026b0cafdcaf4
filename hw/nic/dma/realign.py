# SPDX-License-Identifier: BSD-2-Clause
"""One client's side of the read engine: beats of memory become beats of a transfer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bus.axi4 import Response
from hw.config import NicConfig
from hw.nic.dma.lanes import below, merge
from hw.nic.interfaces import Bytes


class ReadRealigner(wiring.Component):
    """Join rotated beats of memory into full beats from lane 0.

    An unaligned transfer's first beat waits for the second to complete it. What the last beat of memory leaves over
    goes out one cycle later, while the next transfer's first beat is already taken, unless that one has bytes to give
    at once. ``data`` is registered.

    Members
    -------
    expect : stream
        The transfers to come, in order: ``shift`` (first byte's lane) and ``length``. ``ready`` does not depend on
        ``valid``.
    shift
        By how many lanes the next beat must have been rotated down.
    beats : stream
        R beats, rotated, with their ``resp``.
    data : stream of Bytes
        To the client.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__(
            {
                "expect": In(stream.Signature(data.StructLayout({"shift": lane_bits, "length": 16}))),
                "shift": Out(lane_bits),
                "beats": In(stream.Signature(data.StructLayout({"data": config.data_width, "resp": Response}))),
                "data": Out(stream.Signature(Bytes(config))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        width = self._config.beat_bytes
        lane_bits = exact_log2(width)
        shape = data.StructLayout(
            {
                "shift": lane_bits,
                "beats": 17 - lane_bits,  # beats of memory - 1
                "count": lane_bits,  # valid bytes of the last beat of data - 1
                "spill": 1,  # touches one beat of memory more than it has beats of data
            }
        )
        m.submodules.transfers = transfers = SyncFIFO(width=shape.size, depth=self._config.outstanding_reads)
        expected, current = shape(transfers.w_data), shape(transfers.r_data)
        last = Signal(16)
        end = Signal(17)
        m.d.comb += [
            self.expect.ready.eq(transfers.w_rdy),
            transfers.w_en.eq(self.expect.valid),
            last.eq(self.expect.p.length - 1),
            end.eq(last + self.expect.p.shift),
            expected.shift.eq(self.expect.p.shift),
            expected.beats.eq(end[lane_bits:]),
            expected.count.eq(last[:lane_bits]),
            expected.spill.eq(end[lane_bits:] != last[lane_bits:]),
            self.shift.eq(current.shift),
        ]

        position = Signal.like(current.beats)
        carry = Signal(self._config.data_width)
        failed, failed_before = Signal(), Signal()
        # What the last beat of memory left over for a beat of data of its own.
        tail, tail_count, tail_error = Signal(), Signal(lane_bits), Signal()
        free, taken, ends, absorbed, leaves_tail = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~self.data.valid | self.data.ready),
            ends.eq(position == current.beats),
            failed.eq(failed_before | (self.beats.p.resp != Response.OKAY)),
            # The first beat of an unaligned transfer with more to come gives no beat of data yet.
            absorbed.eq((position == 0) & (current.shift != 0) & ~ends),
            leaves_tail.eq(ends & (current.shift != 0) & (current.beats != 0) & ~current.spill),
            self.beats.ready.eq(transfers.r_rdy & Mux(tail, free & absorbed, free | absorbed)),
            taken.eq(self.beats.valid & self.beats.ready),
            transfers.r_en.eq(taken & ends),
        ]
        with m.If(taken):
            m.d.sync += [
                carry.eq(self.beats.p.data),
                position.eq(Mux(ends, 0, position + 1)),
                failed_before.eq(failed & ~ends),
            ]
        # A rotated beat holds the end of one beat of data in its upper lanes, and the beginning of the next below.
        joined = Signal(width)
        with m.If((position != 0) & (current.shift != 0)):
            m.d.comb += joined.eq(below((-current.shift)[:lane_bits]))
        with m.If(tail & free):
            m.d.sync += [
                self.data.valid.eq(1),
                self.data.p.data.eq(carry),
                self.data.p.count.eq(tail_count + 1),
                self.data.p.last.eq(1),
                self.data.p.error.eq(tail_error),
                tail.eq(0),
            ]
        with m.Elif(taken & ~absorbed):
            m.d.sync += [
                self.data.valid.eq(1),
                self.data.p.data.eq(merge(carry, self.beats.p.data, joined)),
                self.data.p.count.eq(Mux(ends & ~leaves_tail, current.count + 1, width)),
                self.data.p.last.eq(ends & ~leaves_tail),
                self.data.p.error.eq(ends & ~leaves_tail & failed),
                tail.eq(leaves_tail),
                tail_count.eq(current.count),
                tail_error.eq(failed),
            ]
        with m.Elif(free):
            m.d.sync += self.data.valid.eq(0)
        return m
