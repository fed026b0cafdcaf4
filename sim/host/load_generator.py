# SPDX-License-Identifier: BSD-2-Clause
"""A device that does nothing but DMA: so many reads or writes of a size, over a window, at a rate."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.axi_lite import AXILiteSignature
from hw.bus.id_fifo import IdFifo
from hw.bus.packet import packet_stream
from hw.config import NicConfig

ID_WIDTH = 8
MAX_OUTSTANDING = 256
DEPTH = 64  #: requests of one ID without response
WORD_BYTES = 8
INTERVAL_BITS = 8  #: of the fraction of a cycle
TIME_BITS = 32
VECTOR = 0  #: of the interrupt at the end of a run
WRITE_AHEAD = 4  #: bursts whose data waits

#: Register ``shape``: what the requests are like.
Shape = data.StructLayout(
    {
        "write": 1,  # writes, else reads
        "random": 1,  # at random places, else one after the other, around the window's end
        "log_size": 4,  # bytes of a request are 2**log_size
        "reserved": 2,
        "last_id": ID_WIDTH,  # AXI IDs 0..last_id take turns
        "outstanding": 16,  # requests without response
        "interval": 16,  # cycles between two requests, in 1/256
        "reserved_high": 16,
    }
)

WRITABLE = ("shape", "base", "places", "count", "device_id", "seed")
RESULTS = ("done", "cycles", "latency_sum", "latency_min", "latency_max", "errors", "nonzero")
REGISTERS = {name: WORD_BYTES * number for number, name in enumerate(("status", *WRITABLE, *RESULTS))}  #: byte offsets
START = REGISTERS["status"]


class LoadGenerator(wiring.Component):
    """Sends ``count`` requests of one kind, and measures them. It has the ports of :class:`hw.nic.nic.Nic`, and sits
    in its place.

    The next request is offered ``interval`` after the one before was taken, fractions of a cycle carried over, while
    fewer than ``outstanding`` are without response. Each is one burst, naturally aligned in one of ``places`` places
    from ``base`` on; random places are of xorshift32 (Marsaglia 2003), which a run begins with ``seed``. Bursts of IDs
    0..``last_id``, each with the bit of ``first_id`` set, take turns, so those of one ID are ordered, and the others
    are not; at most 64 of one ID are on their way. Each 8-byte word that is written holds its own address. R and B are
    always taken.

    Measured is from the first cycle in which AR or AW is offered to the cycle that takes the last beat of R, or B:
    ``latency_*`` of each request, in cycles. ``cycles`` is from the first response to the last, so that
    ``(count - 1) / cycles`` is the rate. ``errors`` counts responses other than OKAY (of a read: beats), and
    ``nonzero`` beats of R that held anything but zeros.

    Registers have 64 bits; writes but of whole ones, to others than :data:`WRITABLE`, or during a run, and accesses to
    where no register is, are refused with SLVERR. A write of 1 to ``status`` starts a run, which the interrupt
    ``VECTOR`` ends; bit 0 of it says that one is under way. A write of 0 lets the run end with the requests that were
    offered by then, as if no more had been asked for. Results stand until the next run.

    Parameters
    ----------
    config : data width and address width of the registers, as the NIC's
    first_id : a power of two that is set in every AXI ID, or 0

    Ports
    -----
    axi : Out, AXI4 with ``user`` saying ``device_id`` and UNTRANSLATED
    registers : In, AXI4-Lite
    interrupt : Out, stream of vectors
    wire_rx, wire_tx, carrier : as of a NIC; frames are taken and forgotten, and none sent
    """

    def __init__(self, config: NicConfig, *, first_id: int = 0):
        if first_id and first_id not in [1 << bit for bit in range(ID_WIDTH)]:
            raise ValueError(f"first_id must be 0 or a power of two below {1 << ID_WIDTH}, not {first_id!r}")
        self.config = config
        self.first_id = first_id
        frames = packet_stream(config.data_width, config.serial_width)
        super().__init__(
            {
                "axi": Out(AXI4Signature(config.data_width, id_width=ID_WIDTH)),
                "registers": In(AXILiteSignature(config.mmio_addr_width)),
                "wire_rx": In(frames),
                "wire_tx": Out(frames),
                "interrupt": Out(stream.Signature(16)),
                "carrier": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = Signal(Shape)
        settings = {"shape": shape, "base": Signal(64), "places": Signal(32), "count": Signal(32)}
        settings |= {"device_id": Signal(24), "seed": Signal(32)}
        running, start, stop = Signal(), Signal(), Signal()
        results = {name: Signal(64 if name == "latency_sum" else 32, name=name) for name in RESULTS}
        self._serve(m, settings, {"status": running, **results}, running, start, stop)
        m.d.comb += [self.wire_rx.ready.eq(1), self.interrupt.payload.eq(VECTOR)]

        now = Signal(TIME_BITS)
        m.d.sync += now.eq(now + 1)
        m.submodules.starts = starts = IdFifo(TIME_BITS, id_width=ID_WIDTH, depth=DEPTH)
        offered, taken, answered, failed = Signal(), Signal(), Signal(), Signal()
        self._offer(m, settings, running, start, now, starts, offered, taken)
        self._answers(m, shape, starts, answered, failed)

        under_way = Signal(range(MAX_OUTSTANDING + 1))
        sent = Signal(32)
        m.d.sync += under_way.eq(under_way + taken - answered)
        m.d.sync += sent.eq(sent + taken)
        owed = Signal(17)  # fractions of a cycle until the next request
        total = Signal(18)
        m.d.comb += [
            total.eq(owed + Mux(taken, shape.interval, 0)),
            offered.eq(
                running
                & (sent != settings["count"])
                & (owed < 1 << INTERVAL_BITS)
                & (under_way < shape.outstanding)
                & starts.push_ready
            ),
        ]
        m.d.sync += owed.eq(Mux(total > 1 << INTERVAL_BITS, total - (1 << INTERVAL_BITS), 0))

        latency = Signal(TIME_BITS)
        last = Signal()
        done, cycles, errors = results["done"], results["cycles"], results["errors"]
        count = Signal(32)
        offering = self.axi.ar.valid | self.axi.aw.valid
        m.d.comb += [
            count.eq(Mux(stop, sent + offering, settings["count"])),
            latency.eq(now - starts.head),
            last.eq((answered & (done + 1 == count)) | (stop & (done == count))),
        ]
        with m.If(stop):
            m.d.sync += settings["count"].eq(count)
        leaked = self.axi.r.valid & self.axi.r.p.data.any()
        with m.If(running):
            m.d.sync += results["nonzero"].eq(results["nonzero"] + leaked)
            m.d.sync += [errors.eq(errors + failed), cycles.eq(cycles + (done != 0))]
        with m.If(answered):
            m.d.sync += [done.eq(done + 1), results["latency_sum"].eq(results["latency_sum"] + latency)]
            with m.If(latency < results["latency_min"]):
                m.d.sync += results["latency_min"].eq(latency)
            with m.If(latency > results["latency_max"]):
                m.d.sync += results["latency_max"].eq(latency)
        with m.If(last):
            m.d.sync += [running.eq(0), self.interrupt.valid.eq(1)]
        with m.Elif(self.interrupt.ready):
            m.d.sync += self.interrupt.valid.eq(0)
        with m.If(start):
            m.d.sync += [running.eq(1), sent.eq(0), owed.eq(0)]
            m.d.sync += [result.eq(0) for result in results.values()]
            m.d.sync += results["latency_min"].eq(-1)
        return m

    def _offer(
        self,
        m: Module,
        settings: dict[str, Any],
        running: Value,
        start: Value,
        now: Value,
        starts: IdFifo,
        offered: Value,
        taken: Value,
    ) -> None:
        """The next request's place, its address on AR or AW, and the data of those offered on AW."""
        axi, shape = self.axi, settings["shape"]
        word = self.config.data_width // 8
        word_bits = word.bit_length() - 1
        state, place, identity, axi_id = Signal(32), Signal(32), Signal(ID_WIDTH), Signal(ID_WIDTH)
        step, following, next_place = Signal(), Signal(32), Signal(32)
        one, two, three = Signal(32), Signal(32), Signal(32)
        m.d.comb += [
            one.eq(state ^ (state << 13)[:32]),
            two.eq(one ^ (one >> 17)),
            three.eq(two ^ (two << 5)[:32]),
            step.eq(start | taken),
            following.eq(Mux(start, settings["seed"], three)),
        ]
        with m.If(shape.random):
            m.d.comb += next_place.eq((following * settings["places"]) >> 32)
        with m.Elif(~start & (place + 1 != settings["places"])):
            m.d.comb += next_place.eq(place + 1)
        with m.If(step):
            m.d.sync += [state.eq(following), place.eq(next_place)]
            m.d.sync += identity.eq(Mux(start | (identity == shape.last_id), 0, identity + 1))
        m.d.comb += axi_id.eq(identity | self.first_id)

        address = Signal(64)
        m.d.comb += address.eq(settings["base"] + (place << shape.log_size))
        whole = shape.log_size > word_bits
        for channel in (axi.ar, axi.aw):
            m.d.comb += [
                channel.p.id.eq(axi_id),
                channel.p.addr.eq(address),
                channel.p.size.eq(Mux(whole, word_bits, shape.log_size)),
                channel.p.len.eq(Mux(whole, (1 << (shape.log_size - word_bits)[:4]) - 1, 0)),
                channel.p.user.device_id.eq(settings["device_id"]),
            ]
        waiting, since = Signal(), Signal(TIME_BITS)
        m.submodules.ahead = ahead = SyncFIFO(width=64, depth=WRITE_AHEAD)
        m.d.comb += [
            axi.ar.valid.eq(offered & ~shape.write),
            axi.aw.valid.eq(offered & shape.write & (waiting | ahead.w_rdy)),
            taken.eq((axi.ar.valid & axi.ar.ready) | (axi.aw.valid & axi.aw.ready)),
            starts.push.eq(taken),
            starts.push_id.eq(axi_id),
            starts.push_data.eq(Mux(waiting, since, now)),
            # Data must not wait for its address to be taken (IHI 0022, A3.3.1).
            ahead.w_en.eq(axi.aw.valid & ~waiting),
            ahead.w_data.eq(address),
        ]
        valid = axi.ar.valid | axi.aw.valid
        m.d.sync += waiting.eq(valid & ~taken)
        with m.If(~waiting):
            m.d.sync += since.eq(now)
        self._write_data(m, shape, ahead)

    def _write_data(self, m: Module, shape: Any, ahead: SyncFIFO) -> None:
        w = self.axi.w
        word = self.config.data_width // 8
        word_bits = word.bit_length() - 1
        beat, beats = Signal(8), Signal(9)
        place = Signal(64)
        lanes = Signal(word)
        m.d.comb += [
            beats.eq(Mux(shape.log_size > word_bits, 1 << (shape.log_size - word_bits)[:4], 1)),
            place.eq(Cat(Const(0, word_bits), (ahead.r_data[word_bits:] + beat)[: 64 - word_bits])),
            lanes.eq((1 << (1 << shape.log_size)[: word_bits + 1]) - 1),
            w.valid.eq(ahead.r_rdy),
            w.p.data.eq(Cat(place | WORD_BYTES * number for number in range(word // WORD_BYTES))),
            w.p.strb.eq(Mux(shape.log_size >= word_bits, -1, lanes << ahead.r_data[:word_bits])),
            w.p.last.eq(beat == beats - 1),
            ahead.r_en.eq(w.valid & w.ready & w.p.last),
        ]
        with m.If(w.valid & w.ready):
            m.d.sync += beat.eq(Mux(w.p.last, 0, beat + 1))

    def _answers(self, m: Module, shape: Any, starts: IdFifo, answered: Value, failed: Value) -> None:
        r, b = self.axi.r, self.axi.b
        m.d.comb += [
            r.ready.eq(1),
            b.ready.eq(1),
            starts.head_id.eq(Mux(shape.write, b.p.id, r.p.id)),
            answered.eq(Mux(shape.write, b.valid, r.valid & r.p.last)),
            starts.pop.eq(answered),
            failed.eq(Mux(shape.write, b.valid & (b.p.resp != Response.OKAY), r.valid & (r.p.resp != Response.OKAY))),
        ]

    def _serve(
        self,
        m: Module,
        settings: dict[str, Any],
        values: dict[str, Value],
        running: Value,
        start: Value,
        stop: Value,
    ) -> None:
        """The register interface, one access at a time."""
        bus = self.registers
        begins = bus.w.p.data[0]
        refused, value = Signal(), Signal(64)
        with m.FSM():
            with m.State("idle"):
                with m.If(bus.aw.valid & bus.w.valid):
                    m.d.comb += [bus.aw.ready.eq(1), bus.w.ready.eq(1)]
                    m.d.sync += refused.eq(1)
                    with m.If(bus.w.p.strb.all() & (bus.aw.p.addr == START) & ~(begins & running)):
                        m.d.comb += [start.eq(begins), stop.eq(~begins & running)]
                        m.d.sync += refused.eq(0)
                    with m.Elif(bus.w.p.strb.all() & ~running):
                        with m.Switch(bus.aw.p.addr):
                            for name, setting in settings.items():
                                with m.Case(REGISTERS[name]):
                                    m.d.sync += [Value.cast(setting).eq(bus.w.p.data), refused.eq(0)]
                    m.next = "written"
                with m.Elif(bus.ar.valid):
                    m.d.comb += bus.ar.ready.eq(1)
                    m.d.sync += [refused.eq(1), value.eq(0)]
                    with m.Switch(bus.ar.p.addr):
                        for name, source in {**settings, **values}.items():
                            with m.Case(REGISTERS[name]):
                                m.d.sync += [value.eq(Value.cast(source)), refused.eq(0)]
                    m.next = "read"
            with m.State("written"):
                m.d.comb += [bus.b.valid.eq(1), bus.b.p.resp.eq(Mux(refused, Response.SLVERR, Response.OKAY))]
                with m.If(bus.b.ready):
                    m.next = "idle"
            with m.State("read"):
                m.d.comb += [bus.r.valid.eq(1), bus.r.p.data.eq(value)]
                m.d.comb += bus.r.p.resp.eq(Mux(refused, Response.SLVERR, Response.OKAY))
                with m.If(bus.r.ready):
                    m.next = "idle"
