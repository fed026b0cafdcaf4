# SPDX-License-Identifier: BSD-2-Clause
"""The link between device and host: PCIe's timing and order, without its packets' bits."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.axi_lite import DATA_WIDTH, AXILiteSignature
from sim.host.delay import TIME_BITS
from sim.host.lane import CARRIED_BITS, PLACE_BITS, Lane, LaneQueue
from sim.host.link_config import LinkConfig
from sim.host.link_reads import LinkReads
from sim.host.link_writes import LinkWrites

VECTOR_BITS = 16
MESSAGE_BITS = 128  #: of header and payload
ANSWER_BITS = 64  #: of the header of a message without payload
REGISTER_DEPTH = 64  #: register accesses, interrupts and messages under way, of each kind
INTERRUPT_BYTES = 4
REGISTER_BYTES = DATA_WIDTH // 8
MESSAGE_BYTES = 8  #: of payload


class HostLink(wiring.Component):
    """Carries a device's memory accesses, interrupts and messages up to the host, and register accesses and messages
    down to it.

    Each direction is one lane with the config's rate and latency; packets enter it in the order of their cycles, those
    of one cycle in the order of this list.

    ========== ===================== ======================================== =================================
    direction  packet                enters when the link takes               bytes, with overhead
    ========== ===================== ======================================== =================================
    upstream   write burst           its last W beat                          :meth:`LinkConfig.write_bytes`
    upstream   interrupt             the vector                               4 + 24
    upstream   register write answer the device's B                           0, or 24 if it is an error
    upstream   register read answer  the device's R                           8 + 20
    upstream   read request          its AR                                   :meth:`LinkConfig.read_bytes`
    upstream   message               the message                              24
    downstream register write        AW and W, both in one cycle              8 + 24
    downstream message               the message                              8 + 24
    downstream register read         its AR                                   24
    downstream read completion       its R beats, each on its own             :meth:`LinkConfig.completion_bytes`
    ========== ===================== ======================================== =================================

    Order
    -----
    Write bursts are posted: acknowledged at entry, and in order among themselves. Everything else upstream leaves only
    when memory has acknowledged every write that entered before it, so an interrupt, a message, a register's value
    or a read never overtakes data; writes do not wait for what entered before them. Downstream the same holds with
    register writes, acknowledged by the device, in the place of write bursts. Packets of one kind keep their order; R
    data of different IDs may interleave.

    Errors
    ------
    Memory's errors on posted writes are counted in ``posted_errors``. A register write that the device refuses comes
    back as an error message (PCIe: unsupported request), and ``host_registers`` answers its B with it. Every register
    write's B comes a round trip later; up to 64 may be under way.

    Without a link (``config.wires``) both sides are joined by wires: order comes from memory's responses.

    Parameters
    ----------
    config : see :class:`LinkConfig`
    width : data bits of both AXI4 interfaces
    clock_khz : clock frequency
    register_addr_width : address bits of the device's registers
    id_width : bits of AXI IDs

    Ports
    -----
    device : AXI4 from the device; device_registers : AXI4-Lite to it
    device_interrupt : stream of vectors from the device; device_message : stream of messages to it
    device_answer : stream of messages without payload from it
    host : AXI4 to memory; host_registers : AXI4-Lite from the CPU
    host_interrupt : stream of vectors to the CPU; host_message : stream of messages from the host
    host_answer : stream of messages to the host
    posted_errors : writes that memory refused, 32 bits; 0 without a link
    up_bytes, down_bytes : bytes, with overhead, that enter each direction in this cycle; 0 without a link
    """

    def __init__(
        self, config: LinkConfig, width: int, clock_khz: int, *, register_addr_width: int = 32, id_width: int = 8
    ):
        if not isinstance(config, LinkConfig):
            raise TypeError(f"config must be a LinkConfig, not {config!r}")
        axi = AXI4Signature(width, id_width=id_width)
        registers = AXILiteSignature(register_addr_width)
        vector = stream.Signature(VECTOR_BITS)
        message = stream.Signature(MESSAGE_BITS)
        self.config = config
        self.width = width
        self.clock_khz = clock_khz
        self.register_addr_width = register_addr_width
        self.id_width = id_width
        super().__init__(
            {
                "device": In(axi),
                "device_registers": Out(registers),
                "device_interrupt": In(vector),
                "device_message": Out(message),
                "device_answer": In(stream.Signature(ANSWER_BITS)),
                "host": Out(axi),
                "host_registers": In(registers),
                "host_interrupt": Out(vector),
                "host_message": In(message),
                "host_answer": Out(stream.Signature(ANSWER_BITS)),
                "posted_errors": Out(32),
                "up_bytes": Out(CARRIED_BITS),
                "down_bytes": Out(CARRIED_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.config.wires:
            connect(m, flipped(self.device), flipped(self.host))
            connect(m, flipped(self.host_registers), flipped(self.device_registers))
            connect(m, flipped(self.device_interrupt), flipped(self.host_interrupt))
            connect(m, flipped(self.host_message), flipped(self.device_message))
            connect(m, flipped(self.device_answer), flipped(self.host_answer))
            return m

        config = self.config
        latency = config.latency_cycles(self.clock_khz)
        rate = config.bytes_per_cycle(self.clock_khz)
        now = Signal(TIME_BITS)
        m.d.sync += now.eq(now + 1)
        m.submodules.upstream = upstream = Lane(rate, latency, 6)
        m.submodules.downstream = downstream = Lane(rate, latency, 4)
        m.submodules.writes = writes = LinkWrites(config, self.width, id_width=self.id_width, latency=latency)
        m.submodules.reads = reads = LinkReads(config, self.width, id_width=self.id_width, latency=latency)
        for part in (upstream, downstream, writes, reads):
            m.d.comb += part.now.eq(now)
        for channel in ("aw", "w", "b"):
            connect(m, flipped(getattr(self.device, channel)), getattr(writes, channel))
            connect(m, getattr(writes, f"host_{channel}"), flipped(getattr(self.host, channel)))
        for channel in ("ar", "r"):
            connect(m, flipped(getattr(self.device, channel)), getattr(reads, channel))
            connect(m, getattr(reads, f"host_{channel}"), flipped(getattr(self.host, channel)))
        m.d.comb += [
            self.posted_errors.eq(writes.errors),
            self.up_bytes.eq(upstream.carried),
            self.down_bytes.eq(downstream.carried),
        ]

        up = {"now": now, "place": writes.place, "landed": writes.landed}
        down = {"now": now, **self._register_writes(m, now, downstream.entries[0])}
        connect(m, writes.lane, upstream.entries[0])
        connect(m, reads.request_lane, upstream.entries[4])
        connect(m, reads.completion_lane, downstream.entries[3])
        m.d.comb += [
            reads.request_place.eq(up["place"]),
            reads.request_landed.eq(up["landed"]),
            reads.completion_place.eq(down["place"]),
            reads.completion_landed.eq(down["landed"]),
        ]

        request, completion = config.request_overhead, config.completion_overhead
        refused = self.device_registers.b.payload.resp != Response.OKAY
        registers = (flipped(self.host_registers), flipped(self.device_registers))
        for name, source, sink, entry, size, order in (
            (
                "interrupts",
                flipped(self.device_interrupt),
                flipped(self.host_interrupt),
                1,
                INTERRUPT_BYTES + request,
                up,
            ),
            ("write_answers", registers[1].b, registers[0].b, 2, Mux(refused, request, 0), up),
            ("read_answers", registers[1].r, registers[0].r, 3, REGISTER_BYTES + completion, up),
            ("answers", flipped(self.device_answer), flipped(self.host_answer), 5, request, up),
            ("messages", flipped(self.host_message), flipped(self.device_message), 1, MESSAGE_BYTES + request, down),
            ("register_reads", registers[0].ar, registers[1].ar, 2, request, down),
        ):
            queue = LaneQueue(source.payload.shape(), REGISTER_DEPTH)
            m.submodules[name] = queue
            lane = upstream if order is up else downstream
            connect(m, queue.lane, lane.entries[entry])
            connect(m, source, queue.input)
            connect(m, queue.output, sink)
            m.d.comb += queue.size.eq(size)
            for port, value in order.items():
                m.d.comb += getattr(queue, port).eq(value)
        return m

    def _register_writes(self, m: Module, now: Value, entry: Any) -> dict[str, Value]:
        """Carry register writes down; how many entered and landed."""
        host, device = self.host_registers, self.device_registers
        write = data.StructLayout({"addr": self.register_addr_width, "w": host.w.payload.shape()})
        m.submodules.register_writes = queue = LaneQueue(write, REGISTER_DEPTH)
        connect(m, queue.lane, entry)
        address_taken = Signal()  # of the write at the head, while the device has not taken all of it
        data_taken = Signal()
        entered = Signal(PLACE_BITS)
        landed = Signal(PLACE_BITS)
        place = Signal(PLACE_BITS)
        m.d.comb += [
            queue.now.eq(now),
            queue.size.eq(REGISTER_BYTES + self.config.request_overhead),
            queue.input.valid.eq(host.aw.valid & host.w.valid),
            queue.input.payload.addr.eq(host.aw.payload.addr),
            queue.input.payload.w.eq(host.w.payload),
            host.aw.ready.eq(host.w.valid & queue.input.ready),
            host.w.ready.eq(host.aw.valid & queue.input.ready),
            device.aw.payload.addr.eq(queue.output.payload.addr),
            device.w.payload.eq(queue.output.payload.w),
            device.aw.valid.eq(queue.output.valid & ~address_taken),
            device.w.valid.eq(queue.output.valid & ~data_taken),
            queue.output.ready.eq((address_taken | device.aw.ready) & (data_taken | device.w.ready)),
            place.eq(entered + queue.lane.enter),
        ]
        m.d.sync += entered.eq(place)
        with m.If(queue.output.valid):
            m.d.sync += [
                address_taken.eq(~queue.output.ready & (address_taken | device.aw.ready)),
                data_taken.eq(~queue.output.ready & (data_taken | device.w.ready)),
            ]
        with m.If(device.b.valid & device.b.ready):
            m.d.sync += landed.eq(landed + 1)
        return {"place": place, "landed": landed}
