# SPDX-License-Identifier: BSD-2-Clause
"""The registers of :file:`hw/abi/nic.rdl` on AXI4-Lite."""

from collections.abc import Mapping

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.abi.registers import WORD_BYTES, Register, register_map
from hw.abi.rings import QueueState
from hw.bus.axi4 import Response
from hw.bus.axi_lite import DATA_WIDTH, AXILiteSignature
from hw.config import NicConfig
from hw.nic.interfaces import IndirectionPort, QueueWrite
from hw.nic.lifecycle import RINGS, QueueStatus


def register_layout(register: Register) -> data.FlexibleLayout:
    """Layout of a register: its fields at their bits, up to the highest."""
    fields = {field.name: data.Field(field.width, field.lsb) for field in register.fields.values()}
    return data.FlexibleLayout(register.mask.bit_length(), fields)


def port_registers(config: NicConfig) -> Mapping[str, Register]:
    """Registers of the port that a NIC with these parameters has: all but those of what is not built in."""
    absent = tuple(prefix for prefix, built in (("rss_", config.rss), ("rule_", config.steering_rules)) if not built)
    registers = register_map(config.queues).port.items()
    return {name: register for name, register in registers if not name.startswith(absent)}


class RegisterBlock(wiring.Component):
    """AXI4-Lite subordinate with every register of the description, one access at a time.

    A write is answered three cycles after its address and data are both there, a read three cycles after its address.
    Writes and reads take turns when both wait. A read of a counter waits while a snapshot is being taken, so software
    may read right after the command.

    ============================================================  ============  ======================================
    access                                                        response      effect
    ============================================================  ============  ======================================
    no register at that address                                   DECERR        none
    address not a multiple of 8; write with a strobe off          SLVERR        none
    write to a read-only, read of a write-only register           SLVERR        none, reads as 0
    ring base or size while the direction is not DISABLED         SLVERR        none
    ``enable`` = 1 while the direction is DRAINING or in ERROR    SLVERR        none
    RSS table entries that name a queue that does not exist       SLVERR        none
    any write during a function reset                             SLVERR        none
    doorbell while the direction is not ENABLED                   OKAY          none
    ============================================================  ============  ======================================

    Bits that do not exist are ignored when written and read as 0.

    Ports
    -----
    bus : In
        The registers.
    control, frame_limits, timeouts, steering, device : Out
        Registers of the port, held in flip-flops. Fields that are pulses are high for one cycle.
    rss_types, rss_key0..rss_key4, rule_source0..rule_flow, rule_command : Out
        More of them, where RSS and steering rules are built in.
    capabilities, status, rule_status : In
        Registers of the port whose value the hardware gives.
    rss_table : Out
        The indirection table, where RSS is built in: :class:`hw.nic.interfaces.IndirectionPort`.
    write : Out
        Accepted writes to a queue pair's page, as their response is offered. All of it is registered, as every block
        listens.
    rx_status, tx_status : In
        :class:`hw.nic.lifecycle.QueueStatus` of each queue.
    counter_address : Out, counter_value : In, counters_busy : In
        Read port of :class:`hw.nic.stats.counters.Stats`, and its ``busy``.
    resetting, hold : In
        A function reset is under way; begin no further access.
    idle : Out
        No access is under way.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._map = register_map(config.queues)
        self._registers = port_registers(config)
        self._table = {name: r for name, r in self._registers.items() if name.startswith("rss_table")}
        self._software = {n: r for n, r in self._registers.items() if r.writable and n not in self._table}
        self._hardware = {name: r for name, r in self._registers.items() if r.hardware and "." not in name}
        status = data.ArrayLayout(QueueStatus, config.queues)
        ports = {}
        for name, register in self._software.items():
            reset = {field.name: field.reset for field in register.fields.values()}
            ports[name] = Out(register_layout(register), init=reset)
        for name, register in self._hardware.items():
            ports[name] = In(register_layout(register))
        if self._table:
            ports["rss_table"] = Out(IndirectionPort())
        super().__init__(
            ports
            | {
                "bus": In(AXILiteSignature(config.mmio_addr_width)),
                "write": Out(QueueWrite(config)),
                "rx_status": In(status),
                "tx_status": In(status),
                "counter_address": Out(config.mmio_addr_width),
                "counter_value": In(DATA_WIDTH),
                "counters_busy": In(1),
                "resetting": In(1),
                "hold": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        address = Signal(self._config.mmio_addr_width)
        word, strobes = Signal(DATA_WIDTH), Signal(WORD_BYTES)
        response = Signal(Response)
        read_next = Signal()
        page_bits = self._map.queue_stride.bit_length() - 1
        offset, page = address[:page_bits], address[page_bits:]
        queue = Signal(range(self._config.queues))
        m.d.comb += queue.eq(page - 1)

        access = _Access(m, self._registers, self._map, offset, page)
        write_ok, broadcast = self._check_write(m, access, offset, page, queue, word)
        value, waits = self._read(m, access, address, offset, page, queue)

        refused = Signal(Response)
        with m.If(~access.mapped):
            m.d.comb += refused.eq(Response.DECERR)
        with m.Else():
            m.d.comb += refused.eq(Response.SLVERR)
        if self._table:
            row = address[WORD_BYTES.bit_length() - 1 :][: len(self.rss_table.row)]
            m.d.comb += [self.rss_table.row.eq(row), self.rss_table.data.eq(word)]
        aligned = address[: WORD_BYTES.bit_length() - 1] == 0

        m.d.comb += [
            self.counter_address.eq(address),
            bus.b.payload.resp.eq(response),
            bus.r.payload.resp.eq(response),
        ]
        m.d.sync += self.write.strobe.eq(0)
        for register in self._software.values():
            for field in register.fields.values():
                if field.pulse:
                    m.d.sync += self._port(register)[field.name].eq(0)

        with m.FSM():
            with m.State("IDLE"):
                writing = bus.aw.valid & bus.w.valid & ~(read_next & bus.ar.valid)
                m.d.comb += self.idle.eq(1)
                with m.If(~self.hold & writing):
                    m.d.comb += [bus.aw.ready.eq(1), bus.w.ready.eq(1)]
                    m.d.sync += [address.eq(bus.aw.payload.addr), read_next.eq(1)]
                    m.d.sync += [word.eq(bus.w.payload.data), strobes.eq(bus.w.payload.strb)]
                    m.next = "WRITE"
                with m.Elif(~self.hold & bus.ar.valid):
                    m.d.comb += bus.ar.ready.eq(1)
                    m.d.sync += [address.eq(bus.ar.payload.addr), read_next.eq(0)]
                    m.next = "READ"
            with m.State("WRITE"):
                accepted = Signal()
                m.d.comb += accepted.eq(aligned & strobes.all() & access.writable & write_ok & ~self.resetting)
                m.d.sync += response.eq(Mux(accepted, Response.OKAY, refused))
                m.d.sync += [
                    self.write.strobe.eq(accepted & broadcast),
                    self.write.queue.eq(queue),
                    self.write.offset.eq(offset),
                    self.write.data.eq(word & access.mask),
                ]
                with m.If(accepted & (page == 0)):
                    self._store(m, offset, word)
                if self._table:
                    m.d.comb += self.rss_table.write.eq(accepted & self._in_table(offset, page))
                m.next = "WRITE RESPONSE"
            with m.State("WRITE RESPONSE"):
                m.d.comb += bus.b.valid.eq(1)
                with m.If(bus.b.ready):
                    m.next = "IDLE"
            with m.State("READ"):
                with m.If(~waits):
                    m.next = "READ DATA"
            with m.State("READ DATA"):
                accepted = aligned & access.readable
                m.d.sync += response.eq(Mux(accepted, Response.OKAY, refused))
                m.d.sync += bus.r.payload.data.eq(Mux(accepted, value, 0))
                m.next = "READ RESPONSE"
            with m.State("READ RESPONSE"):
                m.d.comb += bus.r.valid.eq(1)
                with m.If(bus.r.ready):
                    m.next = "IDLE"
        return m

    def _port(self, register):
        return getattr(self, register.name)

    def _store(self, m, offset, word):
        with m.Switch(offset):
            for register in self._software.values():
                with m.Case(register.offset):
                    target = self._port(register)
                    m.d.sync += target.eq(word & register.mask)

    def _in_table(self, offset, page):
        return (page == 0) & Cat(offset == register.offset for register in self._table.values()).any()

    def _check_write(self, m, access, offset, page, queue, word):
        """Whether a write fits the state of its direction or names queues that exist, and whether the blocks learn of a
        write to a queue's page."""
        write_ok, broadcast = Signal(init=1), Signal()
        m.d.comb += [write_ok.eq(1), broadcast.eq(access.in_queue)]
        if self._table:
            entries = (word[low : low + 8] for low in range(0, DATA_WIDTH, 8))
            with m.If(self._in_table(offset, page)):
                m.d.comb += write_ok.eq(Cat(entry < self._config.queues for entry in entries).all())
        with m.If(access.in_queue):
            for direction, status in (("rx", self.rx_status), ("tx", self.tx_status)):
                state = status[queue].state
                rings = [self._map.queue[f"{ring}_{what}"] for ring in RINGS[direction] for what in ("base", "size")]
                with m.Switch(offset):
                    with m.Case(*(register.offset for register in rings)):
                        m.d.comb += write_ok.eq(state == QueueState.DISABLED)
                    with m.Case(self._map.queue[f"{direction}_control"].offset):
                        startable = (state == QueueState.DISABLED) | (state == QueueState.ENABLED)
                        m.d.comb += write_ok.eq(startable | ~word[0])
                    with m.Case(self._map.queue[f"{direction}_doorbell"].offset):
                        m.d.comb += broadcast.eq(state == QueueState.ENABLED)
        return write_ok, broadcast

    def _read(self, m, access, address, offset, page, queue):
        """Value one cycle after the address, and whether it is still to be waited for."""
        shadowed = [r for r in self._map.queue.values() if r.readable and r.writable]
        words = 1 << max(r.offset // WORD_BYTES for r in shadowed).bit_length()
        depth = words * self._config.queues
        m.submodules.shadow = shadow = Memory(shape=DATA_WIDTH, depth=depth, init=[])
        shadow_write, shadow_read = shadow.write_port(), shadow.read_port()
        written = Signal(depth)
        row = Signal(range(depth))
        low = WORD_BYTES.bit_length() - 1
        m.d.comb += [
            row.eq(Cat(address[low : low + words.bit_length() - 1], queue)),
            shadow_read.addr.eq(row),
            shadow_write.addr.eq(row),
            shadow_write.data.eq(self.write.data),
            shadow_write.en.eq(self.write.strobe & access.readable),
        ]
        with m.If(shadow_write.en):
            m.d.sync += written.eq(written | (Const(1, depth) << row))

        value = Signal(DATA_WIDTH)
        m.d.comb += value.eq(self.counter_value)
        with m.If(page == 0):
            with m.Switch(offset):
                for name, register in self._registers.items():
                    if "." in name or name in self._table:
                        continue
                    with m.Case(register.offset):
                        held = name in self._software or name in self._hardware
                        m.d.comb += value.eq(self._port(register) if held else register.reset)
                if self._table:
                    with m.Case(*(register.offset for register in self._table.values())):
                        m.d.comb += value.eq(self.rss_table.value)
        with m.Else():
            with m.Switch(offset):
                for register in shadowed:
                    with m.Case(register.offset):
                        m.d.comb += value.eq(Mux(written.bit_select(row, 1), shadow_read.data, register.reset))
                for name, status in (("rx_status", self.rx_status), ("tx_status", self.tx_status)):
                    with m.Case(self._map.queue[name].offset):
                        m.d.comb += value.eq(status[queue])
        return value, access.counter & self.counters_busy


class _Access:
    """Decoded address: what is there, and what may be done with it."""

    def __init__(self, m, port, registers, offset, page):
        self.in_queue = Signal()
        self.mapped, self.readable, self.writable, self.counter = Signal(), Signal(), Signal(), Signal()
        self.mask = Signal(DATA_WIDTH)
        m.d.comb += self.in_queue.eq((page != 0) & (page <= registers.queues))
        with m.If(page == 0):
            self._decode(m, port, offset)
        with m.Elif(self.in_queue):
            self._decode(m, registers.queue, offset)

    def _decode(self, m, registers, offset):
        with m.Switch(offset[WORD_BYTES.bit_length() - 1 :]):
            for name, register in registers.items():
                with m.Case(register.offset // WORD_BYTES):
                    m.d.comb += [
                        self.mapped.eq(1),
                        self.readable.eq(register.readable),
                        self.writable.eq(register.writable),
                        self.counter.eq("." in name),
                        self.mask.eq(register.mask),
                    ]
