# SPDX-License-Identifier: BSD-2-Clause
"""Headers on their way to header buffers."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.rings import INDEX_BITS, LINE_BYTES
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.queue_memory import QueueMemory
from hw.nic.queue_register import QueueRegister
from hw.nic.rx.interfaces import HeaderArea
from hw.nic.rx.layouts import PlannedSegment, Segment

_LINE_BITS = exact_log2(LINE_BYTES)
_SIZES = 4  #: of header buffers: one line, doubled for each


class RxHeaderSplit(wiring.Component):
    """Put a segment for the headers before the first segment of each frame that is split.

    It goes to the header buffer with the number of the slot that the frame's first completion will have: that many
    segments of its queue, but for headers and dropped ones, have gone by since the queue was started, modulo the
    entries of its completion ring.

    One segment a cycle, and one cycle for each frame that is split; four cycles from a segment to its own, or to that
    of its headers.

    Members
    -------
    queue_write : register writes; those of the rings and RX_HEADER come only while no segment of the queue is here
    clear : one bit per queue: it begins with slot 0; so does this
    input : stream of :class:`hw.nic.rx.layouts.PlannedSegment`, from registers
    output : stream of :class:`hw.nic.rx.layouts.Segment`, from registers
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "clear": In(config.queues),
                "input": In(stream.Signature(PlannedSegment(config))),
                "output": Out(stream.Signature(Segment(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.indices = indices = QueueMemory(INDEX_BITS, config.queues)
        m.submodules.area = area = QueueRegister(config, "rx_header", width=64)
        m.submodules.size = size = QueueRegister(config, "rx_completion_size", width=INDEX_BITS)
        for register in (area, size):
            wiring.connect(m, register.write, wiring.flipped(self.queue_write))
        moves = Signal()  # everything goes on
        stage = {"valid": 1, "segment": PlannedSegment(config)}

        # What is known of the segment's queue.
        segment = self.input.payload
        found = Signal(data.StructLayout({**stage, "index": INDEX_BITS, "entries": INDEX_BITS, "area": HeaderArea}))
        m.d.comb += [
            self.input.ready.eq(moves),
            indices.clear.eq(self.clear),
            indices.read_queue.eq(segment.queue),
            indices.write_queue.eq(segment.queue),
            indices.write_enable.eq(self.input.valid & moves & ~segment.drop),
            indices.write_value.eq(indices.value + 1),
            *(register.reads[0].queue.eq(segment.queue) for register in (area, size)),
        ]
        with m.If(moves):
            m.d.sync += [
                found.valid.eq(self.input.valid),
                found.segment.eq(segment),
                found.index.eq(indices.value),
                found.entries.eq(size.reads[0].value),
                found.area.eq(area.reads[0].value),
            ]

        # How far its header buffer is from the first.
        slot = Signal(INDEX_BITS)
        placed = Signal(data.StructLayout({**stage, "first": 58, "lines": INDEX_BITS + _SIZES - 1}))
        m.d.comb += slot.eq(found.index & (found.entries - 1))
        with m.If(moves):
            m.d.sync += [
                placed.valid.eq(found.valid),
                placed.segment.eq(found.segment),
                placed.first.eq(found.area.address),
                placed.lines.eq(slot << found.area.setting.size),
            ]

        # Its headers, if they are to be split off, and then the segment.
        held = Signal(data.StructLayout({**stage, "line": 58}))
        m.submodules.skid = skid = SkidBuffer(Segment(config))
        wiring.connect(m, skid.output, wiring.flipped(self.output))
        headers, leaves, output = Signal(), skid.input.ready, skid.input.payload
        m.d.comb += [
            moves.eq(~held.valid | (leaves & ~headers)),
            skid.input.valid.eq(held.valid),
            *(output[name].eq(held.segment[name]) for name, _ in output.shape() if name != "header"),
        ]
        with m.If(headers):
            m.d.comb += [
                output.header.eq(1),
                output.address.eq(Cat(Const(0, _LINE_BITS), held.line)),
                output.length.eq(held.segment.info.header_length),
                output.end_of_packet.eq(0),
            ]
        with m.If(moves):
            m.d.sync += [
                held.valid.eq(placed.valid),
                held.segment.eq(placed.segment),
                held.line.eq(placed.first + placed.lines),
                headers.eq(placed.valid & placed.segment.split),
            ]
        with m.Elif(leaves):
            m.d.sync += headers.eq(0)
        return m
