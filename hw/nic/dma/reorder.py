# SPDX-License-Identifier: BSD-2-Clause
"""Reads that come back in any order, put back into order."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.bus.fifo import StreamFifo
from hw.bus.room import Room
from hw.config import NicConfig
from hw.nic.dma.realign import MemoryBeat


class LandingBeat(data.StructLayout):
    """An R beat of the client's ID ``number``."""

    def __init__(self, config: NicConfig, ids: int):
        super().__init__({"number": range(ids), "last": 1, "beat": MemoryBeat(config)})


class ReorderBuffer(wiring.Component):
    """Give a client's bursts AXI IDs in turn, let their beats land in any order, and hand them on in order.

    Each burst has a slot of block RAM, for as many beats as the longest burst has, from before its address goes out
    until its last beat has left: so ``landing`` never waits. Slots are used in turn, and IDs with them: the slot's low
    bits are the number of the burst's ID. So the bursts of an ID come back in the order of their slots, and how many of
    its beats have landed says where the next one goes and how far the oldest burst can be handed on.

    **Order.** Beats leave in the order of ``reserve``, whatever the order across IDs in which they land.

    **Timing.** One beat a cycle on each side, also across bursts. A beat that is next in order leaves four cycles after
    it landed; earlier bursts need not be complete for later ones to land, nor a burst to begin to leave.

    **Backpressure.** ``room`` falls when all slots are in use: then a burst that is late holds up those behind all
    slots, and nothing else. ``output`` may pause; ``landing`` goes on.

    Parameters
    ----------
    config : NicConfig; slots are ``outstanding_reads``, rounded up to a power of two and at least ``ids``
    ids : AXI IDs, a power of two from 2 up

    Members
    -------
    room : a slot is free
    number : of the ID that the next burst must have
    reserve, beats : a burst of ``beats`` + 1 beats gets a slot and ``number``; only with ``room``
    landing : stream of LandingBeat, always taken
    output : stream of MemoryBeat
    """

    def __init__(self, config: NicConfig, ids: int):
        if not isinstance(ids, int) or ids < 2 or ids & (ids - 1):
            raise ValueError(f"IDs of a client with a reorder buffer must be a power of two from 2 up, not {ids!r}")
        self._config = config
        self._ids = ids
        self._slot_bits = max(ceil_log2(config.outstanding_reads), exact_log2(ids))
        self._beat_bits = exact_log2(config.max_burst_bytes // config.beat_bytes)
        super().__init__(
            {
                "room": Out(1),
                "number": Out(range(ids)),
                "reserve": In(1),
                "beats": In(self._beat_bits),
                "landing": In(stream.Signature(LandingBeat(config, ids), always_ready=True)),
                "output": Out(stream.Signature(MemoryBeat(config))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        slots, id_bits, beat_bits = 1 << self._slot_bits, exact_log2(self._ids), self._beat_bits
        m.submodules.slots = room = Room(slots)
        m.submodules.lengths = lengths = StreamFifo(beat_bits, slots)
        m.submodules.memory = memory = Memory(
            shape=MemoryBeat(self._config), depth=slots << beat_bits, init=[], attrs={"no_rw_check": 1}
        )
        write, read = memory.write_port(), memory.read_port()

        # Bursts are numbered; one bit more than a slot's number tells all slots landed from none.
        tail, head = Signal(self._slot_bits + 1), Signal(self._slot_bits + 1)
        # Of each ID, the next beat to land: its place in the slot, and above it the upper bits of its burst's number.
        landed = Signal(data.ArrayLayout(beat_bits + self._slot_bits + 1 - id_bits, self._ids))
        m.d.comb += [
            self.room.eq(room.room),
            self.number.eq(tail),
            room.take.eq(self.reserve),
            lengths.input.valid.eq(self.reserve),
            lengths.input.payload.eq(self.beats),
        ]
        with m.If(self.reserve):
            m.d.sync += tail.eq(tail + 1)

        beat = self.landing.p
        place = Signal(len(landed[0]))
        m.d.comb += [
            place.eq(landed[beat.number]),
            write.en.eq(self.landing.valid),
            write.addr.eq(Cat(place[:beat_bits], beat.number, place[beat_bits:-1])),
            write.data.eq(beat.beat),
        ]
        # Each has its own adders, which need not wait for the one to be selected.
        with m.If(self.landing.valid), m.Switch(beat.number):
            for number, own in enumerate(landed):
                with m.Case(number):
                    m.d.sync += [
                        own[:beat_bits].eq(Mux(beat.last, 0, own[:beat_bits] + 1)),
                        own[beat_bits:].eq(own[beat_bits:] + beat.last),
                    ]

        # The oldest burst's next beat, and what was seen of its ID's in the cycle before.
        position = Signal(beat_bits)
        seen = Signal(len(place))
        number, following = Signal(range(self._ids)), Signal(range(self._ids))
        step, ends = Signal(), Signal()
        read_valid, moves = Signal(), Signal()
        m.d.comb += [
            number.eq(head),
            following.eq(head + 1),
            moves.eq(~self.output.valid | self.output.ready),
            read.en.eq(~read_valid | moves),
            read.addr.eq(Cat(position, head[:-1])),
            step.eq(lengths.output.valid & (seen != Cat(position, head[id_bits:])) & read.en),
            ends.eq(step & (position == lengths.output.payload)),
            lengths.output.ready.eq(ends),
            room.give.eq(ends),
        ]
        m.d.sync += seen.eq(Mux(ends, landed[following], landed[number]))
        with m.If(step):
            m.d.sync += position.eq(Mux(ends, 0, position + 1))
        with m.If(ends):
            m.d.sync += head.eq(head + 1)
        with m.If(read.en):
            m.d.sync += read_valid.eq(step)
        with m.If(moves):
            m.d.sync += [self.output.valid.eq(read_valid), self.output.p.eq(read.data)]
        return m
