# SPDX-License-Identifier: BSD-2-Clause
"""Random stalls between parts, to find what only works at full speed.

Software sets them while the machine runs, so that one model serves every seed; a run can be repeated.
"""

import hashlib
from typing import Any

from amaranth import Module, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

MAX_RATE = 255  #: a rate counts 1/256 of certainty
GAP_BITS = 6  #: of the longest gap between frames
PLACE_BITS = 6  #: of the number of a place where streams are stalled
PLACES = 1 << PLACE_BITS

#: What a place is set to: the rate of its stalls, and where its random numbers begin.
StallSetting = data.StructLayout({"state": 32, "rate": 8})

#: To all places; ``strobe`` sets one of them from the next cycle on.
StallControl = wiring.Signature({"strobe": Out(1), "place": Out(PLACE_BITS), "setting": Out(StallSetting)})


def stall_setting(rate: int, seed: int, place: int) -> int:
    """The :data:`StallSetting` of a place for a run's rate and seed; each place has times of its own."""
    for name, value, high in (("rate", rate, MAX_RATE), ("seed", seed, (1 << 64) - 1)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"Stall {name} must be an integer, not {value!r}")
        if not 0 <= value <= high:
            raise ValueError(f"Stall {name} must be in 0..{high}, not {value!r}")
    digest = hashlib.blake2b(seed.to_bytes(8, "little") + place.to_bytes(2, "little"), digest_size=4).digest()
    state = int.from_bytes(digest, "little") or 1  # zero would stay zero
    return StallSetting.const({"state": state, "rate": rate}).as_bits()


class RandomBits(wiring.Component):
    """What a place is set to, and 32 pseudo-random bits, new in every cycle (Marsaglia, Xorshift RNGs, 2003).

    Parameters
    ----------
    place : 0..``PLACES`` - 1

    Ports
    -----
    control : In StallControl
    rate : Out 8
        0 until it is set.
    bits : Out 32
    """

    def __init__(self, place: int):
        if not isinstance(place, int) or not 0 <= place < PLACES:
            raise ValueError(f"Stall place must be an integer in 0..{PLACES - 1}, not {place!r}")
        self.place = place
        super().__init__({"control": In(StallControl), "rate": Out(8), "bits": Out(32)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        value = self.bits
        for shift in (13, -17, 5):
            following = Signal(32, name=f"shifted_{abs(shift)}")
            m.d.comb += following.eq(value ^ (value << shift if shift > 0 else value >> -shift))
            value = following
        m.d.sync += self.bits.eq(value)
        with m.If(self.control.strobe & (self.control.place == self.place)):
            m.d.sync += [self.bits.eq(self.control.setting.state), self.rate.eq(self.control.setting.rate)]
        return m


class StreamStall(wiring.Component):
    """A stream that in ``rate`` of 256 cycles neither offers nor takes. What it has offered stays. Latency 0.

    Parameters
    ----------
    shape : of the payload
    place : number by which it is set

    Ports
    -----
    control : In StallControl
    input, output : streams of ``shape``
    """

    def __init__(self, shape: ShapeLike, place: int):
        self.place = place
        super().__init__(
            {
                "control": In(StallControl),
                "input": In(stream.Signature(shape)),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.random = random = RandomBits(self.place)
        connect(m, flipped(self.control), random.control)
        offered = Signal()
        moves = Signal()
        m.d.comb += [
            moves.eq(offered | (random.bits[:8] >= random.rate)),
            self.output.payload.eq(self.input.payload),
            self.output.valid.eq(self.input.valid & moves),
            self.input.ready.eq(self.output.ready & moves),
        ]
        m.d.sync += offered.eq(self.output.valid & ~self.output.ready)
        return m


class BusStall(wiring.Component):
    """Stalls on every channel of a bus, each at its own times.

    Parameters
    ----------
    signature : of streams only: :class:`hw.bus.axi4.AXI4Signature`, :class:`hw.bus.axi_lite.AXILiteSignature`
    place : number by which the first channel is set; the others follow

    Ports
    -----
    control : In StallControl
    manager : In signature, from the manager
    subordinate : Out signature, to the subordinate
    """

    def __init__(self, signature: wiring.Signature, place: int):
        for name, member in signature.members.items():
            if not (member.is_signature and isinstance(member.signature, stream.Signature)):
                raise TypeError(f"A stalled bus consists of streams, but {name} is {member!r}")
        self.bus = signature
        self.place = place
        super().__init__({"control": In(StallControl), "manager": In(signature), "subordinate": Out(signature)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for index, (name, member) in enumerate(self.bus.members.items()):
            ends = [getattr(self.manager, name), getattr(self.subordinate, name)]
            source, sink = ends if member.flow is Out else reversed(ends)
            m.submodules[name] = stall = StreamStall(source.payload.shape(), self.place + index)
            connect(m, flipped(self.control), stall.control)
            connect(m, flipped(source), stall.input)
            connect(m, stall.output, flipped(sink))
        return m


class FrameStall(wiring.Component):
    """Gaps between frames: after ``rate`` of 256 frames, 1 to 64 cycles in which nothing moves; none inside a frame,
    where a MAC cannot stop. Latency 0.

    Parameters
    ----------
    packets : as :func:`hw.bus.packet.packet_stream` gives it
    place : number by which it is set

    Ports
    -----
    control : In StallControl
    input, output : packet streams
    """

    def __init__(self, packets: wiring.Signature, place: int):
        self.place = place
        super().__init__({"control": In(StallControl), "input": In(packets), "output": Out(packets)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.random = random = RandomBits(self.place)
        connect(m, flipped(self.control), random.control)
        gap = Signal(range((1 << GAP_BITS) + 1))
        m.d.comb += [
            self.output.payload.eq(self.input.payload),
            self.output.valid.eq(self.input.valid & (gap == 0)),
            self.input.ready.eq(self.output.ready & (gap == 0)),
        ]
        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.Elif(self.output.valid & self.output.ready & self.output.payload.last & (random.bits[:8] < random.rate)):
            m.d.sync += gap.eq(random.bits[8 : 8 + GAP_BITS] + 1)
        return m
