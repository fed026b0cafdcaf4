# SPDX-License-Identifier: BSD-2-Clause
"""The write engine's data path: beats of transfers become beats of memory."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.bus.axi4 import WriteData
from hw.bus.fifo import StreamFifo
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.countdown import Countdown
from hw.nic.dma.lanes import below, merge, rotate_up
from hw.nic.interfaces import Bytes


class DataSource(data.StructLayout):
    """Whose data is due: the client's number, the lane of the transfer's first byte, and ``length``, its bytes modulo
    a beat."""

    def __init__(self, config: NicConfig, clients: int):
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__({"client": range(max(2, clients)), "shift": lane_bits, "length": lane_bits})


class _DueData(data.StructLayout):
    """A source, and whether its transfer touches one beat of memory more than it has beats of data (``spill``)."""

    def __init__(self, config: NicConfig, clients: int):
        super().__init__({"client": range(max(2, clients)), "shift": exact_log2(config.beat_bytes), "spill": 1})


class BurstShape(data.StructLayout):
    """A burst as W beats see it: ``beats`` - 1, whether it begins and ends its transfer (``first``, ``last``), and the
    lanes of the transfer's first and last byte."""

    def __init__(self, config: NicConfig):
        lane_bits = exact_log2(config.beat_bytes)
        super().__init__({"beats": 8, "first": 1, "last": 1, "first_lane": lane_bits, "last_lane": lane_bits})


class WriteAligner(wiring.Component):
    """Take the clients' data in the order of their transfers, and form W beats: rotated to their lanes, with strobes,
    and marked where a burst ends.

    One beat a cycle without a bubble, within and between transfers, of one client or of several. A beat comes out
    four cycles after its data, where its source and its burst are known. All outputs come from registers, but ``ready``
    of the clients' data from two.

    Parameters
    ----------
    config : NicConfig
    clients : number of clients
    depth : sources and bursts that fit at least

    Members
    -------
    sources : stream of DataSource, one for each transfer
    bursts : stream of BurstShape
    clients[i] : stream of Bytes
    beats : stream of WriteData
    """

    def __init__(self, config: NicConfig, clients: int, depth: int):
        self._config = config
        self._count = clients
        self._depth = depth
        super().__init__(
            {
                "sources": In(stream.Signature(DataSource(config, clients))),
                "bursts": In(stream.Signature(BurstShape(config))),
                "clients": In(stream.Signature(Bytes(config))).array(clients),
                "beats": Out(stream.Signature(WriteData(config.data_width))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        collected = self._collect(m)
        rotated = self._rotate(m, collected)
        self._form(m, rotated)
        return m

    def _collect(self, m):
        """The clients' beats, one after another."""
        m.submodules.told = told = SkidBuffer(self.sources.p.shape())
        m.submodules.sources = sources = StreamFifo(_DueData(self._config, self._count), self._depth)
        connect(m, flipped(self.sources), told.input)
        given, due_data = told.output, sources.input
        lane_bits = len(given.p.shift)
        offset_of_last = Signal(lane_bits)
        m.d.comb += [
            given.ready.eq(due_data.ready),
            due_data.valid.eq(given.valid),
            due_data.p.client.eq(given.p.client),
            due_data.p.shift.eq(given.p.shift),
            offset_of_last.eq(given.p.length - 1),
            due_data.p.spill.eq((given.p.shift + offset_of_last)[lane_bits]),
        ]
        source = sources.output
        shape = data.StructLayout(
            {"data": self._config.data_width, "last": 1, "shift": len(source.p.shift), "spill": 1}
        )
        m.submodules.collected = collected = SkidBuffer(shape)
        due, beat = Array(self.clients)[source.p.client], collected.input
        m.d.comb += [
            beat.valid.eq(source.valid & due.valid),
            beat.p.data.eq(due.p.data),
            beat.p.last.eq(due.p.last),
            beat.p.shift.eq(source.p.shift),
            beat.p.spill.eq(source.p.spill),
            source.ready.eq(beat.valid & beat.ready & due.p.last),
        ]
        for i, client in enumerate(self.clients):
            m.d.comb += client.ready.eq(source.valid & beat.ready & (source.p.client == i))
        return collected.output

    def _rotate(self, m, collected):
        """As many rotated beats as the transfer touches in memory: the last may be only what is left of its data."""
        rotated = stream.Signature(self._config.data_width).create(path=("rotated",))
        flush = Signal()
        free = ~rotated.valid | rotated.ready
        m.d.comb += collected.ready.eq(free & ~flush)
        with m.If(free):
            m.d.sync += [
                rotated.valid.eq(collected.valid | flush),
                flush.eq(collected.valid & ~flush & collected.p.last & collected.p.spill),
                rotated.payload.eq(rotate_up(collected.p.data, collected.p.shift)),
            ]
        return rotated

    def _form(self, m, rotated) -> None:
        """Join what one beat left over with the next one's, and strobe what belongs to the transfer."""
        config = self._config
        m.submodules.bursts = bursts = StreamFifo(self.bursts.p.shape(), self._depth)
        m.submodules.countdown = countdown = Countdown(len(self.bursts.p.beats))
        m.submodules.output = output = SkidBuffer(self.beats.p.shape())
        connect(m, flipped(self.bursts), bursts.input)
        connect(m, output.output, flipped(self.beats))
        burst = bursts.output.p
        joined, formed = output.input, Signal()
        carry, low, high = Signal(config.data_width), Signal(config.beat_bytes), Signal(config.beat_bytes)
        begins, ends = Signal(), Signal()
        first_lane, last_lane = Signal.like(burst.first_lane), Signal.like(burst.last_lane)
        free = Signal()
        m.d.comb += [
            free.eq(~joined.valid | joined.ready),
            formed.eq(rotated.valid & bursts.output.valid & free),
            rotated.ready.eq(bursts.output.valid & free),
            countdown.beats.eq(burst.beats),
            countdown.single.eq(burst.beats == 0),
            countdown.step.eq(formed),
            bursts.output.ready.eq(formed & countdown.last),
            low.eq(below(first_lane)),
            high.eq(below(last_lane) | (1 << last_lane)),
            joined.p.strb.eq(Mux(begins, ~low, -1) & Mux(ends, high, -1)),
        ]
        with m.If(free):
            m.d.sync += joined.valid.eq(formed)
        with m.If(formed):
            m.d.sync += [
                carry.eq(rotated.payload),
                joined.p.data.eq(merge(carry, rotated.payload, below(burst.first_lane))),
                joined.p.last.eq(countdown.last),
                begins.eq(burst.first & countdown.first),
                ends.eq(burst.last & countdown.last),
                first_lane.eq(burst.first_lane),
                last_lane.eq(burst.last_lane),
            ]
