# SPDX-License-Identifier: BSD-2-Clause
"""The two halves of a memory port: bursts in, words of storage, responses at their time."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import PAGE_BYTES, AddressChannel, ReadData, Response, WriteData, WriteResponse
from sim.host.delay import TIME_BITS, DelayFifo
from sim.host.lane import LaneEntry

ADDRESS_BITS = 64
READ_PIPELINE = 3  #: cycles from AR to R that are not in the queue: entering the lane, reading the storage, its output
OUTPUT_WORDS = 4  #: words read that R has not taken; enough for a word a cycle


class Exclusive(wiring.Signature):
    """An exclusive access to the 8-byte word of ``address``, seen from the port: ``attempt`` in the cycle in which it
    touches the storage; for writes, ``granted`` tells in the same cycle whether the reservation still stands."""

    def __init__(self, id_width: int):
        super().__init__(
            {"attempt": Out(1), "id": Out(id_width), "address": Out(ADDRESS_BITS), "granted": In(1)},
        )


class _Burst(data.StructLayout):
    """What of an address channel is kept."""

    def __init__(self, id_width: int):
        super().__init__({"id": id_width, "addr": ADDRESS_BITS, "len": 8, "size": 3, "lock": 1})


def _keep(m: Module, burst: Any, address: Any) -> None:
    for name in ("id", "addr", "len", "size", "lock"):
        m.d.comb += burst[name].eq(address[name])


def _beat_address(burst: Any, beat: Value) -> Value:
    """Byte address of a beat; bursts stay in their page, so the rest of the address never changes."""
    low = PAGE_BYTES.bit_length() - 1
    aligned = burst.addr[:low] & ~((1 << burst.size) - 1)
    return Cat((aligned + (beat << burst.size))[:low], burst.addr[low:])


class MemoryReads(wiring.Component):
    """AR to R. A burst's words are read from its release time on, one a cycle while granted and taken, in order of AR.

    Ports
    -----
    now : the current cycle's number
    ar, r : streams of AXI4
    lane : bandwidth; ``size`` counts the burst's bytes
    request, address : a word is wanted; ``grant`` reads it from storage on this clock edge, if it is ``inside``
    word : the storage's read data, in the cycle after
    exclusive : the word that is read reserves; only if ``exclusives``
    """

    def __init__(self, width: int, id_width: int, *, size: int, latency: int, outstanding: int, exclusives: bool):
        self.width = width
        self.id_width = id_width
        self.size = size
        self.latency = latency
        self.outstanding = outstanding
        self.exclusives = exclusives
        super().__init__(
            {
                "now": In(TIME_BITS),
                "ar": In(stream.Signature(AddressChannel(ADDRESS_BITS, id_width))),
                "r": Out(stream.Signature(ReadData(width, id_width))),
                "lane": Out(LaneEntry()),
                "request": Out(1),
                "grant": In(1),
                "address": Out(ADDRESS_BITS),
                "inside": Out(1),
                "word": In(width),
                "exclusive": Out(Exclusive(id_width)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.waiting = waiting = DelayFifo(_Burst(self.id_width), self.outstanding)
        asked = self.ar.payload
        _keep(m, waiting.input.payload, asked)
        m.d.comb += [
            waiting.now.eq(self.now),
            waiting.release.eq(self.lane.release + (self.latency - READ_PIPELINE)),
            waiting.input.valid.eq(self.ar.valid),
            self.ar.ready.eq(waiting.input.ready),
            self.lane.enter.eq(self.ar.valid & self.ar.ready),
            self.lane.size.eq((asked.len + 1) << asked.size),
        ]

        arriving = Signal()
        arriving_inside = Signal()
        arriving_meta = Signal(data.StructLayout({"id": self.id_width, "resp": Response, "last": 1}))
        output = ReadData(self.width, self.id_width)
        m.submodules.words = words = SyncFIFO(width=output.size, depth=OUTPUT_WORDS)
        word = data.View(output, words.w_data)
        m.d.comb += [
            word.data.eq(Mux(arriving_inside, self.word, 0)),
            word.id.eq(arriving_meta.id),
            word.resp.eq(arriving_meta.resp),
            word.last.eq(arriving_meta.last),
            words.w_en.eq(arriving),
            self.r.payload.eq(words.r_data),
            self.r.valid.eq(words.r_rdy),
            words.r_en.eq(self.r.ready),
        ]

        burst = waiting.output.payload
        beat = Signal(8)
        last = Signal()
        m.d.comb += [
            last.eq(beat == burst.len),
            self.address.eq(Mux(beat == 0, burst.addr, _beat_address(burst, beat))),
            self.inside.eq(burst.addr < self.size),
            self.request.eq(waiting.output.valid & (words.level + arriving < OUTPUT_WORDS)),
            waiting.output.ready.eq(self.grant & last),
            arriving_inside.eq(arriving_meta.resp != Response.DECERR),
        ]
        m.d.sync += arriving.eq(self.grant)
        with m.If(self.grant):
            m.d.sync += [
                beat.eq(Mux(last, 0, beat + 1)),
                arriving_meta.id.eq(burst.id),
                arriving_meta.last.eq(last),
                arriving_meta.resp.eq(Mux(self.inside, Response.OKAY, Response.DECERR)),
            ]
            if self.exclusives:
                with m.If(self.exclusive.attempt):
                    m.d.sync += arriving_meta.resp.eq(Response.EXOKAY)
        if self.exclusives:
            single = burst.lock & (burst.len == 0) & (burst.size <= 3)
            m.d.comb += [
                self.exclusive.attempt.eq(self.grant & self.inside & single),
                self.exclusive.id.eq(burst.id),
                self.exclusive.address.eq(burst.addr),
            ]
        return m


class MemoryWrites(wiring.Component):
    """AW and W to B. A beat's bytes are written on the clock edge that takes it; a burst outside memory writes nothing.

    Ports
    -----
    now : the current cycle's number
    aw, w, b : streams of AXI4; W is taken from the cycle after its AW
    lane : bandwidth; entered by a burst's last beat
    request, address : a beat wants the storage; ``grant`` takes it on this clock edge
    enable : it is to be written (not outside, not an exclusive write that lost its reservation)
    exclusive : the attempt of an exclusive write; only if ``exclusives``
    exchanged : in the cycle after it, the storage did write
    """

    def __init__(self, width: int, id_width: int, *, size: int, latency: int, outstanding: int, exclusives: bool):
        self.width = width
        self.id_width = id_width
        self.size = size
        self.latency = latency
        self.outstanding = outstanding
        self.exclusives = exclusives
        super().__init__(
            {
                "now": In(TIME_BITS),
                "aw": In(stream.Signature(AddressChannel(ADDRESS_BITS, id_width))),
                "w": In(stream.Signature(WriteData(width))),
                "b": Out(stream.Signature(WriteResponse(id_width))),
                "lane": Out(LaneEntry()),
                "request": Out(1),
                "grant": In(1),
                "address": Out(ADDRESS_BITS),
                "enable": Out(1),
                "exclusive": Out(Exclusive(id_width)),
                "exchanged": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        kept = _Burst(self.id_width)
        m.submodules.bursts = bursts = SyncFIFO(width=kept.size, depth=self.outstanding)
        m.submodules.answers = answers = DelayFifo(WriteResponse(self.id_width), self.outstanding)
        _keep(m, data.View(kept, bursts.w_data), self.aw.payload)
        burst = data.View(kept, bursts.r_data)
        beat = Signal(8)
        inside = Signal()
        finished = Signal()
        exclusive, attempted, granted = Signal(), Signal(), Signal()
        m.d.comb += [
            bursts.w_en.eq(self.aw.valid),
            self.aw.ready.eq(bursts.w_rdy),
            inside.eq(burst.addr < self.size),
            self.address.eq(Mux(beat == 0, burst.addr, _beat_address(burst, beat))),
            exclusive.eq(burst.lock & inside & self.exclusives),
            self.request.eq(self.w.valid & bursts.r_rdy & answers.input.ready & ~attempted),
            self.w.ready.eq(attempted | (self.grant & ~exclusive)),
            self.enable.eq(self.grant & inside),
            finished.eq(self.w.valid & self.w.ready & self.w.payload.last),
            bursts.r_en.eq(finished),
            self.lane.enter.eq(finished),
            self.lane.size.eq((burst.len + 1) << burst.size),
            answers.now.eq(self.now),
            answers.release.eq(self.lane.release + (self.latency - 1)),
            answers.input.valid.eq(finished),
            answers.input.payload.id.eq(burst.id),
            answers.input.payload.resp.eq(Mux(inside, Response.OKAY, Response.DECERR)),
            self.b.payload.eq(answers.output.payload),
            self.b.valid.eq(answers.output.valid),
            answers.output.ready.eq(self.b.ready),
        ]
        with m.If(self.w.valid & self.w.ready):
            m.d.sync += beat.eq(Mux(self.w.payload.last, 0, beat + 1))
        if self.exclusives:
            m.d.comb += [
                self.exclusive.id.eq(burst.id),
                self.exclusive.address.eq(burst.addr),
            ]
            m.d.sync += [attempted.eq(self.grant & exclusive), granted.eq(self.exclusive.granted)]
            with m.If(exclusive):
                m.d.comb += [
                    self.exclusive.attempt.eq(self.grant),
                    self.enable.eq(self.grant & self.exclusive.granted),
                    answers.input.payload.resp.eq(Mux(granted & self.exchanged, Response.EXOKAY, Response.OKAY)),
                ]
        return m
