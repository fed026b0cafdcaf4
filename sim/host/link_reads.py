# SPDX-License-Identifier: BSD-2-Clause
"""Reads of the device over the host link: requests upstream, completions downstream."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.axi4 import PAGE_BYTES, AddressChannel, ReadData
from hw.bus.id_fifo import IdFifo
from sim.host.delay import TIME_BITS
from sim.host.lane import PLACE_BITS, LaneEntry, LaneQueue
from sim.host.link_config import LinkConfig

SPARE_BEATS = 64  #: R beats that wait for the lane, beside those on the way


class LinkReads(wiring.Component):
    """Carries AR to the host's end and R back.

    A burst enters the upstream lane in the cycle that takes its AR, in one request for each ``max_read_request``
    bytes, and comes out as the same burst behind all posted writes that entered before it and landed. AR waits for a
    tag for each of the requests; a tag is free again when the device has taken the burst's last beat.

    R beats enter the downstream lane as they come from memory. A completion holds up to ``max_payload`` bytes of one
    burst (less at its beginning, if it does not start on a read completion boundary), and ends early where memory
    interleaves another ID. Each beat is handed on when it has arrived, behind the register writes that entered before
    it and landed. Data is counted in whole beats but for what lies before an unaligned start.

    Ports
    -----
    now : the current cycle's number
    ar, r : from the device
    host_ar, host_r : to memory
    request_lane, completion_lane : LaneEntry, upstream and downstream
    request_place, request_landed, completion_place, completion_landed : see LaneQueue
    """

    def __init__(self, config: LinkConfig, width: int, *, id_width: int, latency: int):
        self.config = config
        self.width = width
        self.id_width = id_width
        self.latency = latency
        address = stream.Signature(AddressChannel(64, id_width))
        beat = stream.Signature(ReadData(width, id_width))
        super().__init__(
            {
                "now": In(TIME_BITS),
                "ar": In(address),
                "r": Out(beat),
                "host_ar": Out(address),
                "host_r": In(beat),
                "request_lane": Out(LaneEntry()),
                "request_place": In(PLACE_BITS),
                "request_landed": In(PLACE_BITS),
                "completion_lane": Out(LaneEntry()),
                "completion_place": In(PLACE_BITS),
                "completion_landed": In(PLACE_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        tag_bits = range(config.read_tags + 1)
        payload_bits = config.max_payload.bit_length() - 1
        boundary_bits = config.read_completion_boundary.bit_length() - 1
        burst = data.StructLayout({"offset": boundary_bits, "size": 3, "tags": tag_bits})
        depth = 1 << (config.read_tags - 1).bit_length()  # all tags may be one ID's
        m.submodules.bursts = bursts = IdFifo(
            burst, id_width=self.id_width, depth=depth, scratch_width=payload_bits + 1
        )
        m.submodules.requests = requests = LaneQueue(self.ar.payload.shape(), config.read_tags)
        kept = data.StructLayout({"beat": self.r.payload.shape(), "tags": tag_bits})
        m.submodules.completions = completions = LaneQueue(kept, self.latency + SPARE_BEATS)

        tags = Signal(tag_bits, init=config.read_tags)
        length = Signal(range(PAGE_BYTES + 1))
        wanted = Signal(tag_bits)
        request_bits = config.max_read_request.bit_length() - 1
        asked = self.ar.payload
        accept = Signal()
        m.d.comb += [
            length.eq(((asked.len + 1) << asked.size) - (asked.addr[:6] & ((1 << asked.size) - 1))),
            wanted.eq((length + (config.max_read_request - 1)) >> request_bits),
            bursts.push_id.eq(asked.id),
            bursts.push_data.offset.eq(asked.addr),
            bursts.push_data.size.eq(asked.size),
            bursts.push_data.tags.eq(wanted),
            accept.eq(tags >= wanted),
            bursts.push.eq(self.ar.valid & self.ar.ready),
            self.ar.ready.eq(accept & requests.input.ready),
            requests.input.valid.eq(self.ar.valid & accept),
            requests.input.payload.eq(asked),
            requests.now.eq(self.now),
            requests.size.eq(wanted * config.request_overhead),
            requests.place.eq(self.request_place),
            requests.landed.eq(self.request_landed),
        ]
        connect(m, requests.output, flipped(self.host_ar))
        connect(m, requests.lane, flipped(self.request_lane))

        # The scratch word of an ID: a burst is under way, and bytes sent of it modulo a packet's payload.
        beat = self.host_r.payload
        position = Signal(payload_bits)
        under_way = Signal()
        step = Signal(8)
        end = Signal(payload_bits + 1)
        starts = Signal()
        previous = Signal(self.id_width)
        low = (1 << bursts.head.size) - 1
        taken = self.host_r.valid & self.host_r.ready
        m.d.comb += [
            bursts.head_id.eq(beat.id),
            under_way.eq(bursts.scratch[-1]),
            position.eq(Mux(under_way, bursts.scratch, bursts.head.offset)),
            step.eq((1 << bursts.head.size) - (position & low)),
            end.eq(position + step),
            starts.eq(~under_way | (position == 0) | (previous != beat.id)),
            bursts.scratch_next.eq(Cat(end[:payload_bits], 1)),
            bursts.step.eq(taken),
            bursts.pop.eq(taken & beat.last),
            completions.now.eq(self.now),
            completions.size.eq(step + Mux(starts, config.completion_overhead, 0)),
            completions.place.eq(self.completion_place),
            completions.landed.eq(self.completion_landed),
            completions.input.valid.eq(self.host_r.valid),
            completions.input.payload.beat.eq(beat),
            completions.input.payload.tags.eq(bursts.head.tags),
            self.host_r.ready.eq(completions.input.ready),
            self.r.payload.eq(completions.output.payload.beat),
            self.r.valid.eq(completions.output.valid),
            completions.output.ready.eq(self.r.ready),
        ]
        connect(m, completions.lane, flipped(self.completion_lane))
        with m.If(taken):
            m.d.sync += previous.eq(beat.id)
        came = self.r.valid & self.r.ready & self.r.payload.last
        m.d.sync += tags.eq(tags - Mux(bursts.push, wanted, 0) + Mux(came, completions.output.payload.tags, 0))
        return m
