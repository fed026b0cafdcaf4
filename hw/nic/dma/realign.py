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


class BeatPlan(data.StructLayout):
    """What becomes of a beat of memory.

    Members
    -------
    shift : by how many lanes it is rotated down
    absorbed : it gives no beat of data yet: the first of an unaligned transfer with more to come
    joined : lanes that the beat before it has the bytes of
    ends : it is the transfer's last
    leaves_tail : it ends, and what it leaves over is a beat of data of its own
    count : valid bytes of the transfer's last beat of data - 1
    """

    def __init__(self, config: NicConfig):
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__(
            {
                "shift": lane_bits,
                "absorbed": 1,
                "joined": config.beat_bytes,
                "ends": 1,
                "leaves_tail": 1,
                "count": lane_bits,
            }
        )


class RotatedBeat(data.StructLayout):
    """A beat of memory, rotated as planned."""

    def __init__(self, config: NicConfig):
        super().__init__({"data": config.data_width, "resp": Response, "plan": BeatPlan(config)})


class ReadRealigner(wiring.Component):
    """Join rotated beats of memory into full beats from lane 0.

    An unaligned transfer's first beat waits for the second to complete it. What the last beat of memory leaves over
    goes out one cycle later, while the next transfer's first beat is already taken, unless that one has bytes to give
    at once. ``data`` is registered.

    What becomes of a beat is planned before it is rotated; between the plan and ``beats`` the user may put registers.

    Members
    -------
    expect : stream
        The transfers to come, in order: ``shift`` (first byte's lane) and ``length``. ``ready`` does not depend on
        ``valid``.
    plan : BeatPlan
        What to do with the next beat; only while ``planned``.
    step
        That beat is on its way to ``beats``.
    beats : stream of RotatedBeat
    data : stream of Bytes
        To the client.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__(
            {
                "expect": In(stream.Signature(data.StructLayout({"shift": lane_bits, "length": 16}))),
                "plan": Out(BeatPlan(config)),
                "planned": Out(1),
                "step": In(1),
                "beats": In(stream.Signature(RotatedBeat(config))),
                "data": Out(stream.Signature(Bytes(config))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lane_bits = exact_log2(self._config.beat_bytes)
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
            self.planned.eq(transfers.r_rdy),
        ]

        position = Signal.like(current.beats)
        plan = self.plan
        m.d.comb += [
            plan.shift.eq(current.shift),
            plan.ends.eq(position == current.beats),
            plan.absorbed.eq((position == 0) & (current.shift != 0) & ~plan.ends),
            plan.leaves_tail.eq(plan.ends & (current.shift != 0) & (current.beats != 0) & ~current.spill),
            plan.count.eq(current.count),
            transfers.r_en.eq(self.step & plan.ends),
        ]
        # A rotated beat holds the end of one beat of data in its upper lanes, and the beginning of the next below.
        with m.If((position != 0) & (current.shift != 0)):
            m.d.comb += plan.joined.eq(below((-current.shift)[:lane_bits]))
        with m.If(self.step):
            m.d.sync += position.eq(Mux(plan.ends, 0, position + 1))
        self._join(m)
        return m

    def _join(self, m) -> None:
        width = self._config.beat_bytes
        beat = self.beats.p
        plan = beat.plan
        carry = Signal(self._config.data_width)
        failed, failed_before = Signal(), Signal()
        # What the last beat of memory left over for a beat of data of its own.
        tail, tail_count, tail_error = Signal(), Signal.like(plan.count), Signal()
        free, taken = Signal(), Signal()
        ends = plan.ends & ~plan.leaves_tail
        m.d.comb += [
            free.eq(~self.data.valid | self.data.ready),
            failed.eq(failed_before | (beat.resp != Response.OKAY)),
            self.beats.ready.eq(Mux(tail, free & plan.absorbed, free | plan.absorbed)),
            taken.eq(self.beats.valid & self.beats.ready),
        ]
        with m.If(taken):
            m.d.sync += [carry.eq(beat.data), failed_before.eq(failed & ~plan.ends)]
        with m.If(tail & free):
            m.d.sync += [
                self.data.valid.eq(1),
                self.data.p.data.eq(carry),
                self.data.p.count.eq(tail_count + 1),
                self.data.p.last.eq(1),
                self.data.p.error.eq(tail_error),
                tail.eq(0),
            ]
        with m.Elif(taken & ~plan.absorbed):
            m.d.sync += [
                self.data.valid.eq(1),
                self.data.p.data.eq(merge(carry, beat.data, plan.joined)),
                self.data.p.count.eq(Mux(ends, plan.count + 1, width)),
                self.data.p.last.eq(ends),
                self.data.p.error.eq(ends & failed),
                tail.eq(plan.leaves_tail),
                tail_count.eq(plan.count),
                tail_error.eq(failed),
            ]
        with m.Elif(free):
            m.d.sync += self.data.valid.eq(0)
