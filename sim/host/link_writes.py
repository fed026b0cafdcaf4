# SPDX-License-Identifier: BSD-2-Clause
"""The posted channel of the host link: write bursts from the device to memory."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import AddressChannel, Response, WriteData, WriteResponse
from sim.host.delay import TIME_BITS, DelayFifo
from sim.host.lane import PLACE_BITS, LaneEntry
from sim.host.link_config import LinkConfig

DWORD = 4  #: bytes; packets carry whole ones
ADDRESSES = 16  #: AW ahead of their data
RESPONSES = 16  #: B that the device has not taken


class LinkWrites(wiring.Component):
    """Acknowledges a write burst at the device's end, and repeats it at the host's end when all of it has arrived.

    A burst enters the lane in the cycle that takes its last W beat, and B (OKAY, whatever memory will say) is offered
    in the next. At the host's end, in the order of entry, AW goes out from its release time on and W with it, one beat
    a cycle; neither waits for the other to be taken (IHI 0022, A3.3.1). All bursts carry ID 0 there, so that memory
    keeps their order.

    AW waits while the burst does not fit the credits (beats and bursts); they come back a latency after the host's end
    took the burst's last beat. W waits for its AW and for ``RESPONSES`` untaken B.

    A burst is cut into packets of ``max_payload``; it is charged the 4-byte words from the first to the last that its
    strobes touch.

    Ports
    -----
    now : the current cycle's number
    aw, w, b : from the device
    host_aw, host_w, host_b : to memory
    lane : LaneEntry
    place : writes that entered the lane, with the one that enters now
    landed : writes that memory acknowledged
    errors : those of them whose response was not OKAY
    """

    def __init__(self, config: LinkConfig, width: int, *, id_width: int, latency: int):
        self.config = config
        self.width = width
        self.id_width = id_width
        self.latency = latency
        address = stream.Signature(AddressChannel(64, id_width))
        beat = stream.Signature(WriteData(width))
        answer = stream.Signature(WriteResponse(id_width))
        super().__init__(
            {
                "now": In(TIME_BITS),
                "aw": In(address),
                "w": In(beat),
                "b": Out(answer),
                "host_aw": Out(address),
                "host_w": Out(beat),
                "host_b": In(answer),
                "lane": Out(LaneEntry()),
                "place": Out(PLACE_BITS),
                "landed": Out(PLACE_BITS),
                "errors": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        beats = config.posted_credits // (self.width // 8)
        bursts = config.posted_headers
        address = self.aw.payload.shape()
        m.submodules.addresses = addresses = SyncFIFO(width=address.size, depth=ADDRESSES)
        m.submodules.beats = stored = SyncFIFOBuffered(width=self.w.payload.shape().size, depth=beats)
        # One more than the credits: a burst's come back with its data, which may go ahead of its address.
        m.submodules.headers = headers = DelayFifo(address, bursts + 1)
        m.submodules.responses = responses = SyncFIFO(width=self.id_width, depth=RESPONSES)
        m.submodules.returns = returns = DelayFifo(9, bursts)

        beat_credits = Signal(range(beats + 1), init=beats)
        burst_credits = Signal(range(bursts + 1), init=bursts)
        cost = Signal(9)
        m.d.comb += [
            cost.eq(self.aw.payload.len + 1),
            addresses.w_data.eq(self.aw.payload),
            addresses.w_en.eq(self.aw.valid & self.aw.ready),
            self.aw.ready.eq(addresses.w_rdy & (burst_credits != 0) & (beat_credits >= cost)),
        ]
        m.d.sync += [
            beat_credits.eq(
                beat_credits - Mux(addresses.w_en, cost, 0) + Mux(returns.output.valid, returns.output.payload, 0)
            ),
            burst_credits.eq(burst_credits - addresses.w_en + returns.output.valid),
        ]

        burst = data.View(address, addresses.r_data)
        taken = Signal()
        finished = Signal()
        # The credits keep room for every beat and burst whose AW was taken.
        m.d.comb += [
            self.w.ready.eq(addresses.r_rdy & responses.w_rdy),
            taken.eq(self.w.valid & self.w.ready),
            finished.eq(taken & self.w.payload.last),
            stored.w_data.eq(self.w.payload),
            stored.w_en.eq(taken),
            addresses.r_en.eq(finished),
            self.lane.enter.eq(finished),
            self.lane.size.eq(self._size(m, burst, taken)),
            headers.now.eq(self.now),
            headers.release.eq(self.lane.release),
            headers.input.valid.eq(finished),
            headers.input.payload.eq(burst),
            headers.input.payload.id.eq(0),
            responses.w_data.eq(burst.id),
            responses.w_en.eq(finished),
            self.b.payload.id.eq(responses.r_data),
            self.b.payload.resp.eq(Response.OKAY),
            self.b.valid.eq(responses.r_rdy),
            responses.r_en.eq(self.b.ready),
        ]

        arrived = Signal(range(-1, bursts + 1))  # bursts whose AW was taken, less those whose W was
        sent_address = headers.output.valid & headers.output.ready
        sent_beat = self.host_w.valid & self.host_w.ready
        sent_last = sent_beat & self.host_w.payload.last
        returned = Signal(9)  # beats of the burst that is going out
        m.d.comb += [
            self.host_aw.payload.eq(headers.output.payload),
            self.host_aw.valid.eq(headers.output.valid),
            headers.output.ready.eq(self.host_aw.ready),
            self.host_w.payload.eq(stored.r_data),
            self.host_w.valid.eq(stored.r_rdy & (arrived + headers.output.valid > 0)),
            stored.r_en.eq(sent_beat),
            returns.now.eq(self.now),
            returns.release.eq(self.now + self.latency),
            returns.input.payload.eq(returned + 1),
            returns.input.valid.eq(sent_last),
            returns.output.ready.eq(1),
        ]
        m.d.sync += arrived.eq(arrived + sent_address - sent_last)
        with m.If(sent_beat):
            m.d.sync += returned.eq(Mux(sent_last, 0, returned + 1))

        entered = Signal(PLACE_BITS)
        m.d.comb += [self.place.eq(entered + finished), self.host_b.ready.eq(1)]
        m.d.sync += entered.eq(self.place)
        with m.If(self.host_b.valid):
            m.d.sync += self.landed.eq(self.landed + 1)
            with m.If((self.host_b.payload.resp == Response.SLVERR) | (self.host_b.payload.resp == Response.DECERR)):
                m.d.sync += self.errors.eq(self.errors + 1)
        return m

    def _size(self, m: Module, burst: Any, taken: Any) -> Any:
        """Bytes of the burst's packets, in the cycle of its last beat."""
        words = self.width // 8 // DWORD
        touched = [self.w.payload.strb.word_select(word, DWORD).any() for word in range(words)]
        lead = Signal(range(words))  # words before the first touched one, and after the last
        trail = Signal(range(words))
        for word in reversed(range(words)):
            with m.If(touched[word]):
                m.d.comb += lead.eq(word)
        for word in range(words):
            with m.If(touched[word]):
                m.d.comb += trail.eq(words - 1 - word)
        first = Signal(init=1)
        kept = Signal(range(words))
        with m.If(taken):
            m.d.sync += first.eq(self.w.payload.last)
            with m.If(first):
                m.d.sync += kept.eq(lead)
        length = Signal(13)
        m.d.comb += length.eq((((burst.len + 1) * words) - Mux(first, lead, kept) - trail) * DWORD)
        payload_bits = self.config.max_payload.bit_length() - 1
        packets = (length + (self.config.max_payload - 1)) >> payload_bits
        return length + packets * self.config.request_overhead
