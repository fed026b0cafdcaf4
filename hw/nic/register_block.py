# SPDX-License-Identifier: BSD-2-Clause
"""The registers of :file:`hw/abi/nic.rdl` on AXI4-Lite."""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.pools import IDS_PER_RETURN, PoolState
from hw.abi.registers import WORD_BYTES, Register, register_map
from hw.abi.rings import QueueState
from hw.bus.axi4 import Response
from hw.bus.axi_lite import DATA_WIDTH, AXILiteSignature
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.lifecycle import RINGS, QueueStatus
from hw.nic.recycle.interfaces import PoolWrite
from hw.nic.register_decoder import RegisterDecoder, strobe
from hw.nic.register_set import (
    in_table,
    is_counter,
    is_shadowed,
    pool_registers,
    port_registers,
    pulses,
    queue_registers,
    register_pages,
)
from hw.nic.register_shadow import RegisterShadow
from hw.nic.rx.interfaces import IndirectionPort

_OFFSET_LSB = exact_log2(WORD_BYTES)


def register_layout(register: Register) -> data.FlexibleLayout:
    """Layout of a register: its fields at their bits, up to the highest."""
    fields = {field.name: data.Field(field.width, field.lsb) for field in register.fields.values()}
    return data.FlexibleLayout(register.mask.bit_length(), fields)


class RegisterBlock(wiring.Component):
    """AXI4-Lite subordinate with every register of the description, one access at a time.

    A write is answered four cycles after its address and data are both there, a read five cycles after its address.
    Writes and reads take turns when both wait. A read of a counter waits while a snapshot is being taken, so software
    may read right after the command. Two kinds of writes to a pool's page wait, and with them the bus, until two cycles
    after the hardware that takes them has room again: those to RETURN1 to RETURN4 for ``returns_full``, those to
    COMMAND and BUFFER_ADDRESS for ``command_busy`` of the pool.

    ============================================================  ============  ======================================
    access                                                        response      effect
    ============================================================  ============  ======================================
    no register at that address                                   DECERR        none
    address not a multiple of 8; write with a strobe off          SLVERR        none
    write to a read-only, read of a write-only register           SLVERR        none, reads as 0
    ring base or size, RX_HEADER, RX_POOL or TX_POOLS, while      SLVERR        none
    the direction is not DISABLED
    ``enable`` = 1 while the direction is DRAINING or in ERROR    SLVERR        none
    ``enable`` = 1 while the pool is DRAINING                     SLVERR        none
    RSS table entries that name a queue that does not exist       SLVERR        none
    any write during a function reset, also one that waits        SLVERR        none
    doorbell while the direction is not ENABLED                   OKAY          none
    ============================================================  ============  ======================================

    Bits that do not exist are ignored when written and read as 0.

    Ports
    -----
    bus : In
        The registers.
    control, frame_limits, timeouts, steering, device : Out
        Registers of the port, held in flip-flops. Fields that are pulses are high for one cycle.
    rx_offload, rss_types, rss_key0..rss_key4, rule_source0..rule_flow, rule_command : Out
        More of them, where classification, RSS and steering rules are built in.
    capabilities, pool_capabilities, status, rule_status : In
        Registers of the port whose value the hardware gives.
    rss_table : Out
        The indirection table, where RSS is built in: :class:`hw.nic.rx.interfaces.IndirectionPort`.
    write : Out
        Accepted writes to a queue pair's page, in the cycle after the first in which their response is offered. The
        next access is judged, and reads, by the state that this one led to.
    rx_status, tx_status : In
        :class:`hw.nic.lifecycle.QueueStatus` of each queue.
    pool_write : Out
        Where pools are built in: accepted writes to a pool's page, as ``write`` has those to a queue pair's.
    pool_read : Out, pool_values : In
        Likewise: a pool, and one cycle later, from flip-flops, its registers whose value the hardware gives. To be what
        the next access is judged by, and reads, the values must tell of a write in the second cycle after its
        broadcast.
    returns_full, command_busy : In
        Likewise: a write to a return register waits; one to COMMAND or BUFFER_ADDRESS of that pool does. They must tell
        of a write in the second cycle after its broadcast at the latest, and fall without software's doing.
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
        registers = port_registers(config)
        self._single = {name: r for name, r in registers.items() if not is_counter(name) and not in_table(name)}
        self._software = {name: r for name, r in self._single.items() if r.writable}
        self._hardware = {name: r for name, r in self._single.items() if r.hardware}
        status = data.ArrayLayout(QueueStatus, config.queues)
        ports = {}
        for name, register in self._software.items():
            reset = {field.name: field.reset for field in register.fields.values()}
            ports[name] = Out(register_layout(register), init=reset)
        for name, register in self._hardware.items():
            ports[name] = In(register_layout(register))
        if config.rss:
            ports["rss_table"] = Out(IndirectionPort())
        if config.pools:
            values = {name: register_layout(r) for name, r in pool_registers(config).items() if r.hardware}
            ports |= {
                "pool_write": Out(PoolWrite(config)),
                "pool_read": Out(range(config.pools)),
                "pool_values": In(data.StructLayout(values)),
                "returns_full": In(1),
                "command_busy": In(config.pools),
            }
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
        page_bits = exact_log2(self._map.queue_stride)
        page = address[page_bits:]
        queue = Signal(range(self._config.queues))
        m.d.comb += queue.eq(page - 1)

        # An access is decoded in two cycles and judged in the next.
        m.submodules.decoder = decoder = RegisterDecoder(self._config)
        access = decoder.found
        well_formed = Signal()
        m.d.sync += well_formed.eq((address[:_OFFSET_LSB] == 0) & strobes.all())
        write_ok, rings = self._judge(m, access, queue, word)
        write_waits = self._pool_waits(m, access, page) if self._config.pools else Const(0)
        m.submodules.shadow = shadow = RegisterShadow(self._config)
        value = self._value(m, access, queue, well_formed & access.readable, shadow)
        refused = Mux(access.mapped, Response.SLVERR, Response.DECERR)

        m.d.comb += [
            self.counter_address.eq(address),
            decoder.address.eq(address),
            shadow.address.eq(address),
            shadow.data.eq(self._kept(access, word)),
            bus.b.payload.resp.eq(response),
            bus.r.payload.resp.eq(response),
        ]
        # What is accepted is known at the end of one cycle, and stored in the next.
        stored = Signal()
        m.d.comb += shadow.write.eq(stored & access.shadowed)
        m.d.sync += stored.eq(0)
        self._broadcast(m, stored, access, rings, queue, word)
        for name, register in self._software.items():
            target = self._port(register)
            m.d.sync += [target[field.name].eq(0) for field in register.fields.values() if field.pulse]
            with m.If(stored & access[f"at_{name}"]):
                m.d.sync += target.eq(word)
        if self._config.rss:
            row = address[_OFFSET_LSB:][: len(self.rss_table.row)]
            m.d.comb += [
                self.rss_table.row.eq(row),
                self.rss_table.data.eq(word),
                self.rss_table.write.eq(stored & access.in_table),
            ]

        with m.FSM():
            with m.State("IDLE"):
                writing = bus.aw.valid & bus.w.valid & ~(read_next & bus.ar.valid)
                m.d.comb += self.idle.eq(1)
                with m.If(~self.hold & writing):
                    m.d.comb += [bus.aw.ready.eq(1), bus.w.ready.eq(1)]
                    m.d.sync += [address.eq(bus.aw.payload.addr), read_next.eq(1)]
                    m.d.sync += [word.eq(bus.w.payload.data), strobes.eq(bus.w.payload.strb)]
                    m.next = "LOOK UP"
                with m.Elif(~self.hold & bus.ar.valid):
                    m.d.comb += bus.ar.ready.eq(1)
                    m.d.sync += [address.eq(bus.ar.payload.addr), read_next.eq(0), strobes.eq(~0)]
                    m.next = "LOOK UP"
            with m.State("LOOK UP"):
                with m.If(read_next):
                    m.next = "DECODE WRITE"
                with m.Else():
                    m.next = "DECODE READ"
            with m.State("DECODE WRITE"):
                m.next = "WRITE"
            with m.State("WRITE"):
                accepted = Signal()
                m.d.comb += accepted.eq(well_formed & access.writable & write_ok & ~self.resetting)
                with m.If(~write_waits | self.resetting):
                    m.d.sync += [
                        word.eq(word & decoder.mask),
                        response.eq(Mux(accepted, Response.OKAY, refused)),
                        stored.eq(accepted),
                    ]
                    m.next = "WRITE RESPONSE"
            with m.State("WRITE RESPONSE"):
                m.d.comb += bus.b.valid.eq(1)
                with m.If(bus.b.ready):
                    m.next = "IDLE"
            with m.State("DECODE READ"):
                m.next = "READ"
            with m.State("READ"):
                with m.If(~(access.counter & self.counters_busy)):
                    m.next = "READ DATA"
            with m.State("READ DATA"):
                m.d.sync += [
                    response.eq(Mux(well_formed & access.readable, Response.OKAY, refused)),
                    bus.r.payload.data.eq(value),
                ]
                m.next = "READ RESPONSE"
            with m.State("READ RESPONSE"):
                m.d.comb += bus.r.valid.eq(1)
                with m.If(bus.r.ready):
                    m.next = "IDLE"
        return m

    def _port(self, register):
        return getattr(self, register.name)

    def _judge(self, m, access, queue, word):
        """Whether a write fits the state of its direction and names queues that exist, and for each doorbell whether
        it rings."""
        refusals, rings = [], {}
        for direction in RINGS:
            state = getattr(self, f"{direction}_status")[queue].state
            disabled, enabled = Signal(name=f"{direction}_disabled"), Signal(name=f"{direction}_enabled")
            m.d.sync += [disabled.eq(state == QueueState.DISABLED), enabled.eq(state == QueueState.ENABLED)]
            refusals += [
                access[f"{direction}_ring"] & ~disabled,
                access[f"at_{direction}_control"] & word[0] & ~disabled & ~enabled,
            ]
            rings[f"{direction}_doorbell"] = enabled
        if self._config.rss:
            existing = Signal()
            entries = (word[low : low + 8] for low in range(0, DATA_WIDTH, 8))
            m.d.sync += existing.eq(Cat(entry < self._config.queues for entry in entries).all())
            refusals.append(access.in_table & ~existing)
        if self._config.pools:
            draining = self.pool_values.status.state == PoolState.DRAINING
            refusals.append(access.pool_control & word[0] & draining)
        return ~Cat(refusals).any(), rings

    def _pool_waits(self, m, access, page):
        """Whether a write to a pool's page has to wait."""
        full, busy = Signal(), Signal()
        m.d.sync += [
            self.pool_read.eq(page - 1 - self._config.queues),
            full.eq(self.returns_full),
            busy.eq(self.command_busy.bit_select(self.pool_read, 1)),
        ]
        returns = Cat(access[f"pool_return{count}"] for count in range(1, IDS_PER_RETURN + 1)).any()
        return (returns & full) | ((access.pool_command | access.pool_buffer_address) & busy)

    def _kept(self, access, word):
        """What the shadow keeps of a word: no pulses."""
        for kind, registers in register_pages(self._config).items():
            for name, register in registers.items():
                if is_shadowed(kind, register) and pulses(register):
                    word = Mux(access[strobe(kind, name)], word & (register.mask & ~pulses(register)), word)
        return word

    def _broadcast(self, m, stored, access, rings, queue, word):
        """Tell all blocks of what is stored in a page of a queue or a pool, and of doorbells that ring."""
        at = self.write.at
        m.d.sync += [at[name].eq(stored & access[f"at_{name}"] & rings.get(name, 1)) for name, _ in at.shape()]
        whose, what = Signal.like(queue, reset_less=True), Signal(DATA_WIDTH, reset_less=True)
        m.d.sync += [whose.eq(queue), what.eq(word)]
        m.d.comb += [self.write.queue.eq(whose), self.write.data.eq(what)]
        if self._config.pools:
            at = self.pool_write.at
            m.d.sync += [at[name].eq(stored & access[strobe("pool", name)]) for name, _ in at.shape()]
            m.d.sync += self.pool_write.pool.eq(self.pool_read)
            m.d.comb += self.pool_write.data.eq(what)

    def _value(self, m, access, queue, readable, shadow):
        """What is read four cycles after the address is there: 0 if it must not be."""
        status = {}
        for direction in RINGS:
            status[f"{direction}_status"] = Signal(QueueStatus, name=f"{direction}_status_read")
            m.d.sync += status[f"{direction}_status"].eq(getattr(self, f"{direction}_status")[queue])

        # One cycle finds what is neither in the shadow nor a counter, the next takes it or one of those.
        values = []
        for name, register in queue_registers(self._config).items():
            if not is_counter(name):
                values.append(Mux(access[f"at_{name}"], status.get(name, register.reset), 0))
        for name, register in self._single.items():
            held = (register.writable or register.hardware) and not is_shadowed("port", register)
            values.append(Mux(access[f"at_{name}"], self._port(register) if held else register.reset, 0))
        if self._config.pools:
            for name, register in pool_registers(self._config).items():
                given = self.pool_values[name] if register.hardware else register.reset
                values.append(Mux(access[strobe("pool", name)], given, 0))
        if self._config.rss:
            values.append(Mux(access.in_table, self.rss_table.value, 0))
        found, in_shadow, counted = Signal(DATA_WIDTH), Signal(), Signal()
        m.d.sync += [
            found.eq(Mux(readable, reduce(or_, values), 0)),
            in_shadow.eq(readable & access.shadowed),
            counted.eq(readable & access.counter),
        ]
        return Mux(in_shadow & shadow.known, shadow.value, found | Mux(counted, self.counter_value, 0))
