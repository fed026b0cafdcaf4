# SPDX-License-Identifier: BSD-2-Clause
"""Random stalls between parts, to find what only works at full speed. Seeded: a run can be repeated."""

import hashlib
from typing import Any

from amaranth import Module, Signal
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.packet import packet_stream

CHANCES = 256  #: a rate counts so many parts of certainty
GAP_BITS = 6  #: of the longest gap between frames


def _check(rate: int, seed: int) -> None:
    for name, value, low, high in (("rate", rate, 0, CHANCES - 1), ("seed", seed, 0, (1 << 64) - 1)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"Stall {name} must be an integer, not {value!r}")
        if not low <= value <= high:
            raise ValueError(f"Stall {name} must be in {low}..{high}, not {value!r}")


class RandomBits(wiring.Component):
    """32 pseudo-random bits, new in every cycle (Marsaglia, Xorshift RNGs, 2003).

    Parameters
    ----------
    seed : any number; different seeds give unrelated starts
    """

    def __init__(self, seed: int):
        digest = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=4).digest()
        self.init = int.from_bytes(digest, "little") or 1
        super().__init__({"bits": Out(32, init=self.init)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        value = self.bits
        for shift in (13, -17, 5):
            following = Signal(32, name=f"shifted_{abs(shift)}")
            m.d.comb += following.eq(value ^ (value << shift if shift > 0 else value >> -shift))
            value = following
        m.d.sync += self.bits.eq(value)
        return m


class StreamStall(wiring.Component):
    """A stream that in ``rate`` of 256 cycles neither offers nor takes. What it has offered stays. Latency 0.

    Parameters
    ----------
    shape : of the payload
    rate : 0..255; 0 is wires
    seed : of the cycles' choice

    Ports
    -----
    input, output : streams of ``shape``
    """

    def __init__(self, shape: ShapeLike, rate: int, seed: int):
        _check(rate, seed)
        self.rate = rate
        self.seed = seed
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if not self.rate:
            connect(m, flipped(self.input), flipped(self.output))
            return m
        m.submodules.random = random = RandomBits(self.seed)
        offered = Signal()
        moves = Signal()
        m.d.comb += [
            moves.eq(offered | (random.bits[:8] >= self.rate)),
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
    rate, seed : see :class:`StreamStall`

    Ports
    -----
    manager : In signature, from the manager
    subordinate : Out signature, to the subordinate
    """

    def __init__(self, signature: wiring.Signature, rate: int, seed: int):
        _check(rate, seed)
        for name, member in signature.members.items():
            if not (member.is_signature and isinstance(member.signature, stream.Signature)):
                raise TypeError(f"A stalled bus consists of streams, but {name} is {member!r}")
        self.bus = signature
        self.rate = rate
        self.seed = seed
        super().__init__({"manager": In(signature), "subordinate": Out(signature)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        for index, (name, member) in enumerate(self.bus.members.items()):
            ends = [getattr(self.manager, name), getattr(self.subordinate, name)]
            source, sink = ends if member.flow is Out else reversed(ends)
            stall = StreamStall(source.payload.shape(), self.rate, (self.seed + (index << 56)) % (1 << 64))
            m.submodules[name] = stall
            connect(m, flipped(source), stall.input)
            connect(m, stall.output, flipped(sink))
        return m


class FrameStall(wiring.Component):
    """Gaps between frames: after ``rate`` of 256 frames, 1 to 64 cycles in which nothing moves; none inside a frame,
    where a MAC cannot stop. Latency 0.

    Parameters
    ----------
    width, serial_width : see :func:`hw.bus.packet.packet_stream`
    rate, seed : see :class:`StreamStall`

    Ports
    -----
    input, output : packet streams
    """

    def __init__(self, width: int, serial_width: int, rate: int, seed: int):
        _check(rate, seed)
        self.rate = rate
        self.seed = seed
        packets = packet_stream(width, serial_width)
        super().__init__({"input": In(packets), "output": Out(packets)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if not self.rate:
            connect(m, flipped(self.input), flipped(self.output))
            return m
        m.submodules.random = random = RandomBits(self.seed)
        gap = Signal(range((1 << GAP_BITS) + 1))
        m.d.comb += [
            self.output.payload.eq(self.input.payload),
            self.output.valid.eq(self.input.valid & (gap == 0)),
            self.input.ready.eq(self.output.ready & (gap == 0)),
        ]
        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.Elif(self.output.valid & self.output.ready & self.output.payload.last & (random.bits[:8] < self.rate)):
            m.d.sync += gap.eq(random.bits[8 : 8 + GAP_BITS] + 1)
        return m
