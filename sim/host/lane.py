# SPDX-License-Identifier: BSD-2-Clause
"""One direction of the link: packets share its bandwidth in the order in which they enter."""

from fractions import Fraction
from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from sim.host.delay import TIME_BITS, DelayFifo

FRACTION_BITS = 16  #: of a cycle
SIZE_BITS = 14  #: a page in the smallest packets, with overhead
PLACE_BITS = 32
CARRIED_BITS = SIZE_BITS + 2  #: of what all senders of a direction give in a cycle


class LaneEntry(wiring.Signature):
    """Where packets enter a lane, seen from the sender.

    ``enter`` : a packet enters in this cycle. ``size`` : its bytes, with overhead. ``release`` : from the lane, in the
    same cycle: when its last byte comes out at the other end.
    """

    def __init__(self) -> None:
        super().__init__({"enter": Out(1), "size": Out(SIZE_BITS), "release": In(TIME_BITS)})


class Lane(wiring.Component):
    """Serialises packets: each begins when the one before it has left, and takes ``size`` / ``bytes_per_cycle`` cycles.

    Packets that enter in one cycle go in the order of ``entries``. Time is kept in fixed point and a packet's duration
    rounded up, so that the lane never moves more than its rate. The lane itself has no bound: its senders' credits are.

    Parameters
    ----------
    bytes_per_cycle : rate
    latency : cycles from a packet's last byte in to its last byte out
    entries : senders

    Ports
    -----
    now : the current cycle's number
    entries : array of LaneEntry
    carried : bytes, with overhead, that enter in this cycle
    """

    def __init__(self, bytes_per_cycle: Fraction, latency: int, entries: int):
        if bytes_per_cycle <= 0:
            raise ValueError(f"A lane's rate must be positive, not {bytes_per_cycle!r}")
        if latency < 0:
            raise ValueError(f"A lane's latency must be 0 or more cycles, not {latency!r}")
        exact = (1 << FRACTION_BITS) / Fraction(bytes_per_cycle)
        self.byte_time = -(-exact.numerator // exact.denominator)  #: of one byte, in fractions of a cycle
        self.latency = latency
        super().__init__(
            {"now": In(TIME_BITS), "entries": In(LaneEntry()).array(entries), "carried": Out(CARRIED_BITS)}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        time = TIME_BITS + FRACTION_BITS
        busy_until = Signal(time)
        free = Signal(time)
        m.d.comb += free.eq(Mux(busy_until[FRACTION_BITS:] < self.now, self.now << FRACTION_BITS, busy_until))
        m.d.comb += self.carried.eq(sum(Mux(entry.enter, entry.size, 0) for entry in self.entries))
        end: Value = free
        round_up = (1 << FRACTION_BITS) - 1
        for index, entry in enumerate(self.entries):
            out = Signal(time, name=f"end_{index}")
            m.d.comb += [
                out.eq(Mux(entry.enter, end + entry.size * self.byte_time, end)),
                entry.release.eq(((out + round_up) >> FRACTION_BITS) + self.latency),
            ]
            end = out
        with m.If(Value.cast(end) != free):
            m.d.sync += busy_until.eq(end)
        return m


class LaneQueue(wiring.Component):
    """Packets of one kind on their way: from ``input`` over a lane to ``output``, in order, and behind posted writes.

    A packet is offered when it has arrived, the packets of its kind before it are taken, and ``landed`` has reached the
    ``place`` it entered with: the number of posted writes that entered the lane before it. ``input`` is not ready while
    ``depth`` packets are under way. Latency: the lane's, at least 2 cycles.

    Ports
    -----
    now : the current cycle's number
    lane : LaneEntry
    size : bytes of the packet at ``input``, with overhead
    place : posted writes ahead of the packet at ``input``
    landed : posted writes that have taken effect at the far end
    input, output : streams of ``shape``
    """

    def __init__(self, shape: ShapeLike, depth: int):
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "now": In(TIME_BITS),
                "lane": Out(LaneEntry()),
                "size": In(SIZE_BITS),
                "place": In(PLACE_BITS),
                "landed": In(PLACE_BITS),
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        item = data.StructLayout({"payload": Shape.cast(self.shape), "place": PLACE_BITS})
        m.submodules.delay = delay = DelayFifo(item, self.depth)
        m.d.comb += [
            delay.now.eq(self.now),
            delay.release.eq(self.lane.release),
            delay.input.payload.payload.eq(Value.cast(self.input.payload)),
            delay.input.payload.place.eq(self.place),
            delay.input.valid.eq(self.input.valid),
            self.input.ready.eq(delay.input.ready),
            self.lane.enter.eq(self.input.valid & self.input.ready),
            self.lane.size.eq(self.size),
        ]
        ahead = Signal(PLACE_BITS)  # as a signed number: posted writes that still have to land
        m.d.comb += [
            ahead.eq(delay.output.payload.place - self.landed),
            Value.cast(self.output.payload).eq(delay.output.payload.payload),
            self.output.valid.eq(delay.output.valid & ((ahead == 0) | ahead[-1])),
            delay.output.ready.eq(self.output.ready & self.output.valid),
        ]
        return m
