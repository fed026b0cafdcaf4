# SPDX-License-Identifier: BSD-2-Clause
"""One client's side of the read engine: beats of memory become beats of a transfer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.fifo import StreamFifo
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.countdown import Countdown
from hw.nic.dma.lanes import below, merge, rotate_down
from hw.nic.interfaces import Bytes


class MemoryBeat(data.StructLayout):
    """A beat as memory gave it; ``error``: it was not answered with OKAY."""

    def __init__(self, config: NicConfig):
        super().__init__({"data": config.data_width, "error": 1})


class _Expected(data.StructLayout):
    """What is known of a transfer before its beats come.

    Members
    -------
    shift : by how many lanes its beats are rotated down
    beats : beats of memory - 1
    single : those are one
    tail : it is unaligned, and fills as many beats of data as it has of memory
    count : valid bytes of its last beat of data
    """

    def __init__(self, config: NicConfig):
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__(
            {
                "shift": lane_bits,
                "beats": 17 - lane_bits,
                "single": 1,
                "tail": 1,
                "count": range(config.beat_bytes + 1),
            }
        )


class _RotatedBeat(data.StructLayout):
    """A beat of memory with its first byte wanted in lane 0, and what becomes of it.

    Members
    -------
    absorbed : it gives no beat of data yet: the first of an unaligned transfer with more to come
    joined : lanes that the beat before it has the bytes of
    ends : it is the transfer's last
    leaves_tail : it ends, and what it leaves over is a beat of data of its own
    count : valid bytes of the transfer's last beat of data
    """

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "data": config.data_width,
                "error": 1,
                "absorbed": 1,
                "joined": config.beat_bytes,
                "ends": 1,
                "leaves_tail": 1,
                "count": range(config.beat_bytes + 1),
            }
        )


class ReadRealigner(wiring.Component):
    """Rotate beats of memory, and join them into full beats from lane 0.

    An unaligned transfer's first beat waits for the second to complete it. What the last beat of memory leaves over
    goes out one cycle later, while the next transfer's first beat is already taken, unless that one has bytes to give
    at once. One beat a cycle; ``data`` follows ``beats`` by two cycles. ``data`` comes from registers, ``beats.ready``
    from two of them.

    Parameters
    ----------
    config : NicConfig
    depth : transfers that can be expected

    Members
    -------
    expect : stream
        The transfers to come, in order: ``shift`` (first byte's lane) and ``length``; at most ``depth`` that are not
        ``finished``. Beats of a transfer are taken from the fourth cycle after it.
    beats : stream of MemoryBeat
    finished : the last beat of the oldest transfer expected was taken; there is room for another
    data : stream of Bytes
        To the client.
    """

    def __init__(self, config: NicConfig, depth: int):
        self._config = config
        self._depth = depth
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__(
            {
                "expect": In(
                    stream.Signature(data.StructLayout({"shift": lane_bits, "length": 16}), always_ready=True)
                ),
                "beats": In(stream.Signature(MemoryBeat(config))),
                "finished": Out(1),
                "data": Out(stream.Signature(Bytes(config))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.transfers = transfers = StreamFifo(_Expected(self._config), self._depth)
        m.submodules.rotated = rotated = SkidBuffer(_RotatedBeat(self._config))
        self._measure(m, transfers.input)
        self._rotate(m, transfers.output, rotated.input)
        self._join(m, rotated.output)
        return m

    def _measure(self, m, expected) -> None:
        """What is to be known of a transfer, in two steps from a register."""
        lane_bits = exact_log2(self._config.beat_bytes)
        told, transfer = Signal(), Signal(self.expect.p.shape())
        shift, last, end = Signal(lane_bits), Signal(16), Signal(17)
        p = expected.p
        m.d.comb += [
            p.shift.eq(shift),
            p.beats.eq(end[lane_bits:]),
            p.single.eq(end[lane_bits:] == 0),
            p.tail.eq((shift != 0) & (end[lane_bits:] == last[lane_bits:]) & ~p.single),
            p.count.eq(last[:lane_bits] + 1),
        ]
        m.d.sync += [
            told.eq(self.expect.valid),
            transfer.eq(self.expect.p),
            expected.valid.eq(told),
            shift.eq(transfer.shift),
            last.eq(transfer.length - 1),
            end.eq(transfer.shift + transfer.length - 1),
        ]

    def _rotate(self, m, transfers, rotated) -> None:
        """Rotate each beat, and say what becomes of it."""
        transfer = transfers.p
        m.submodules.countdown = countdown = Countdown(len(transfer.beats))
        unaligned = transfer.shift != 0
        step = Signal()
        m.d.comb += [
            self.beats.ready.eq(transfers.valid & rotated.ready),
            step.eq(self.beats.valid & self.beats.ready),
            countdown.beats.eq(transfer.beats),
            countdown.single.eq(transfer.single),
            countdown.step.eq(step),
            self.finished.eq(step & countdown.last),
            transfers.ready.eq(self.finished),
            rotated.valid.eq(step),
            rotated.p.data.eq(rotate_down(self.beats.p.data, transfer.shift)),
            rotated.p.error.eq(self.beats.p.error),
            rotated.p.absorbed.eq(countdown.first & unaligned & ~transfer.single),
            rotated.p.ends.eq(countdown.last),
            rotated.p.leaves_tail.eq(countdown.last & transfer.tail),
            rotated.p.count.eq(transfer.count),
        ]
        # A rotated beat holds the end of one beat of data in its upper lanes, and the beginning of the next below.
        with m.If(~countdown.first & unaligned):
            m.d.comb += rotated.p.joined.eq(below((-transfer.shift)[: len(transfer.shift)]))

    def _join(self, m, rotated) -> None:
        m.submodules.output = output = SkidBuffer(Bytes(self._config))
        connect(m, output.output, flipped(self.data))
        beat, joined = rotated.p, output.input.p
        carry = Signal(self._config.data_width)
        failed, failed_before = Signal(), Signal()
        # What the last beat of memory left over for a beat of data of its own.
        tail, tail_count, tail_error = Signal(), Signal.like(beat.count), Signal()
        free, taken = output.input.ready, Signal()
        ends = beat.ends & ~beat.leaves_tail
        m.d.comb += [
            failed.eq(failed_before | beat.error),
            rotated.ready.eq(Mux(tail, free & beat.absorbed, free | beat.absorbed)),
            taken.eq(rotated.valid & rotated.ready),
            output.input.valid.eq(tail | (rotated.valid & ~beat.absorbed)),
            joined.data.eq(merge(carry, beat.data, beat.joined | tail.replicate(len(beat.joined)))),
            joined.count.eq(Mux(tail, tail_count, Mux(ends, beat.count, self._config.beat_bytes))),
            joined.last.eq(tail | ends),
            joined.error.eq(Mux(tail, tail_error, ends & failed)),
        ]
        with m.If(taken):
            m.d.sync += [carry.eq(beat.data), failed_before.eq(failed & ~beat.ends)]
        with m.If(tail):
            m.d.sync += tail.eq(~free)
        with m.Elif(taken & beat.leaves_tail):
            m.d.sync += [tail.eq(1), tail_count.eq(beat.count), tail_error.eq(failed)]
