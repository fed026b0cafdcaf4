# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 from a narrow manager to a wide subordinate."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.axi4 import MAX_BURST_BEATS, AXI4Signature, ReadData, WriteData
from hw.bus.id_fifo import IdFifo


class _Start(data.StructLayout):
    """Where a burst begins within a wide word, and how it goes on."""

    def __init__(self, wide_bytes: int):
        super().__init__({"cursor": range(wide_bytes), "size": 3, "len": 8})


class WidthConverter(wiring.Component):
    """Joins an AXI4 manager to a wider subordinate; of equal width, it is wires.

    A burst becomes one burst of full-width beats over the same bytes (never more beats, never another page). IDs, user
    and lock are kept; an exclusive access is one beat and keeps its size too. Responses of one ID keep their order,
    and wide beats of different IDs may interleave. A wide beat's response is that of each of its narrow beats.

    Throughput is one narrow beat a cycle in each direction, with no cycle lost between bursts. Latency: AW and AR 0
    cycles, W 1 cycle after the narrow beat that completes a wide one, R 1 cycle, B 0. W is taken from the cycle after
    its AW is offered, whether or not that was taken: a subordinate may want to see both (IHI 0022, A3.3.1).
    ``outstanding`` bounds the bursts of one ID whose data is not complete (reads) and the bursts whose data is
    not (writes): then AR or AW waits.

    Parameters
    ----------
    narrow, wide : data widths in bits
    id_width, addr_width : see :class:`hw.bus.axi4.AXI4Signature`
    outstanding : a power of two

    Ports
    -----
    narrow : AXI4 from the manager
    wide : AXI4 to the subordinate
    """

    def __init__(self, narrow: int, wide: int, *, id_width: int = 8, addr_width: int = 64, outstanding: int = 32):
        from_manager = AXI4Signature(narrow, id_width=id_width, addr_width=addr_width)
        to_subordinate = AXI4Signature(wide, id_width=id_width, addr_width=addr_width)
        if wide < narrow:
            raise ValueError(f"The wide side must be at least as wide as the narrow side's {narrow} bits, not {wide!r}")
        if not isinstance(outstanding, int) or outstanding < 1 or outstanding & (outstanding - 1):
            raise ValueError(f"outstanding must be a power of two, not {outstanding!r}")
        self.outstanding = outstanding
        super().__init__({"narrow": In(from_manager), "wide": Out(to_subordinate)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        narrow, wide = self.narrow.signature, self.wide.signature
        if narrow.data_width == wide.data_width:
            connect(m, flipped(self.narrow), flipped(self.wide))
            return m
        m.submodules.write = write = _WriteData(narrow.data_width, wide.data_width, self.outstanding)
        m.submodules.read = read = _ReadData(narrow, wide, self.outstanding)
        connect(m, flipped(self.narrow.w), write.narrow)
        connect(m, write.wide, flipped(self.wide.w))
        connect(m, flipped(self.wide.b), flipped(self.narrow.b))
        connect(m, flipped(self.wide.r), read.wide)
        connect(m, read.narrow, flipped(self.narrow.r))
        _address(m, self.narrow.aw, self.wide.aw, write.start, wide.data_width // 8)
        _address(m, self.narrow.ar, self.wide.ar, read.start, wide.data_width // 8)
        m.d.comb += read.start_id.eq(self.narrow.ar.payload.id)
        return m


def _address(m: Module, narrow: Any, wide: Any, start: Any, wide_bytes: int) -> None:
    """Pass an address on with its length in wide beats, and tell the data path once, when it is first offered."""
    shift = wide_bytes.bit_length() - 1
    burst = narrow.payload
    offset = Signal(range(wide_bytes), name=f"{narrow.valid.name}_offset")
    last_byte = Signal(range(257 * wide_bytes), name=f"{narrow.valid.name}_last_byte")
    told = Signal(name=f"{narrow.valid.name}_told")
    m.d.sync += told.eq(wide.valid & ~wide.ready)
    m.d.comb += [
        offset.eq(burst.addr & ~((1 << burst.size) - 1)),
        last_byte.eq(offset + ((burst.len + 1) << burst.size) - 1),
        wide.payload.eq(burst),
        wide.valid.eq(narrow.valid & (told | start.ready)),
        narrow.ready.eq(wide.ready & (told | start.ready)),
        start.payload.cursor.eq(offset),
        start.payload.size.eq(burst.size),
        start.payload.len.eq(burst.len),
        start.valid.eq(narrow.valid & ~told),
    ]
    with m.If(~burst.lock):
        m.d.comb += [wide.payload.len.eq(last_byte >> shift), wide.payload.size.eq(shift)]


class _WriteData(wiring.Component):
    """Gathers narrow W beats into wide ones; ``start`` announces each burst, in order."""

    def __init__(self, narrow: int, wide: int, outstanding: int):
        self.narrow_bytes = narrow // 8
        self.wide_bytes = wide // 8
        self.outstanding = outstanding
        super().__init__(
            {
                "start": In(stream.Signature(_Start(self.wide_bytes))),
                "narrow": In(stream.Signature(WriteData(narrow))),
                "wide": Out(stream.Signature(WriteData(wide))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        starts = SyncFIFO(width=self.start.payload.shape().size, depth=self.outstanding)
        m.submodules.starts = starts
        head = data.View(self.start.payload.shape(), starts.r_data)
        m.d.comb += [
            starts.w_data.eq(self.start.payload.as_value()),
            starts.w_en.eq(self.start.valid),
            self.start.ready.eq(starts.w_rdy),
        ]

        narrow, wide = self.narrow, self.wide
        word = WriteData(8 * self.wide_bytes)
        gathered = Signal(word)  # of the word under way
        merged = Signal(word)
        begun = Signal()  # of the burst under way, a beat was taken
        position = Signal(range(self.wide_bytes))
        cursor = Signal(range(self.wide_bytes))
        after = Signal(range(2 * self.wide_bytes))
        complete = Signal()
        lane = cursor >> (self.narrow_bytes.bit_length() - 1)
        written = Cat(bit.replicate(8) for bit in narrow.payload.strb)
        before = gathered.data.word_select(lane, 8 * self.narrow_bytes)
        m.d.comb += [
            cursor.eq(Mux(begun, position, head.cursor)),
            after.eq(cursor + (1 << head.size)),
            complete.eq(after[-1] | narrow.payload.last),
            narrow.ready.eq(starts.r_rdy & (~complete | ~wide.valid | wide.ready)),
            merged.eq(gathered),
            merged.last.eq(narrow.payload.last),
            merged.data.word_select(lane, 8 * self.narrow_bytes).eq(
                (before & ~written) | (narrow.payload.data & written)
            ),
            merged.strb.word_select(lane, self.narrow_bytes).eq(
                gathered.strb.word_select(lane, self.narrow_bytes) | narrow.payload.strb
            ),
            starts.r_en.eq(narrow.valid & narrow.ready & narrow.payload.last),
        ]
        with m.If(wide.ready):
            m.d.sync += wide.valid.eq(0)
        with m.If(narrow.valid & narrow.ready):
            m.d.sync += [begun.eq(~narrow.payload.last), position.eq(after), gathered.eq(merged)]
            with m.If(complete):
                m.d.sync += [wide.payload.eq(merged), wide.valid.eq(1), gathered.strb.eq(0)]
        return m


class _ReadData(wiring.Component):
    """Hands wide R beats on in narrow ones; ``start`` announces each burst of ``start_id``."""

    def __init__(self, narrow: AXI4Signature, wide: AXI4Signature, outstanding: int):
        self.narrow_bytes = narrow.data_width // 8
        self.wide_bytes = wide.data_width // 8
        self.id_width = narrow.id_width
        self.outstanding = outstanding
        super().__init__(
            {
                "start": In(stream.Signature(_Start(self.wide_bytes))),
                "start_id": In(self.id_width),
                "wide": In(stream.Signature(ReadData(wide.data_width, self.id_width))),
                "narrow": Out(stream.Signature(ReadData(narrow.data_width, self.id_width))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beats = MAX_BURST_BEATS
        m.submodules.bursts = bursts = IdFifo(
            self.start.payload.shape(),
            id_width=self.id_width,
            depth=self.outstanding,
            scratch_width=beats.bit_length(),
        )
        m.d.comb += [
            bursts.push_id.eq(self.start_id),
            bursts.push_data.eq(self.start.payload),
            bursts.push.eq(self.start.valid & self.start.ready),
            self.start.ready.eq(bursts.push_ready),
        ]

        # What of the arriving word belongs to its burst; the scratch word counts the narrow beats before it.
        wide, narrow = self.wide, self.narrow
        burst = bursts.head
        cursor = Signal(range(self.wide_bytes))
        fitting = Signal(range(self.wide_bytes + 1))
        remaining = Signal(range(beats + 1))
        count = Signal(range(self.wide_bytes + 1))
        take = Signal()
        m.d.comb += [
            bursts.head_id.eq(wide.payload.id),
            cursor.eq(burst.cursor + (bursts.scratch << burst.size)),
            fitting.eq((self.wide_bytes - cursor) >> burst.size),
            remaining.eq(burst.len + 1 - bursts.scratch),
            count.eq(Mux(fitting < remaining, fitting, remaining)),
            bursts.scratch_next.eq(bursts.scratch + count),
            bursts.step.eq(take),
            bursts.pop.eq(take & wide.payload.last),
        ]

        held = Signal(wide.payload.shape())
        lane_cursor = Signal(range(self.wide_bytes))
        size = Signal(3)
        left = Signal(range(self.wide_bytes + 1))
        m.d.comb += [
            narrow.valid.eq(left != 0),
            narrow.payload.id.eq(held.id),
            narrow.payload.resp.eq(held.resp),
            narrow.payload.last.eq(held.last & (left == 1)),
            narrow.payload.data.eq(
                held.data.word_select(lane_cursor >> (self.narrow_bytes.bit_length() - 1), 8 * self.narrow_bytes)
            ),
            wide.ready.eq((left == 0) | ((left == 1) & narrow.ready)),
            take.eq(wide.valid & wide.ready),
        ]
        with m.If(narrow.valid & narrow.ready):
            m.d.sync += [left.eq(left - 1), lane_cursor.eq(lane_cursor + (1 << size))]
        with m.If(take):
            m.d.sync += [held.eq(wide.payload), lane_cursor.eq(cursor), size.eq(burst.size), left.eq(count)]
        return m
