# SPDX-License-Identifier: BSD-2-Clause
"""Exact steering: the queue that software chose for a flow."""

from functools import reduce
from operator import xor
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.abi.rings import NetworkLayer, PacketType, TransportLayer
from hw.abi.steering import RULE_BANKS, RULE_MESSAGE_BYTES, RuleError, rule_hash, rule_slots
from hw.config import NicConfig
from hw.nic.rx.interfaces import RuleWindow
from hw.nic.rx.layouts import FlowTuple

_WAITING = 4  #: packets whose places are being found and read


class RuleKey(data.Struct):
    """What a packet and a rule must agree in. ``valid``: it is a packet that a rule can name, or a rule."""

    valid: 1
    ipv6: 1
    udp: 1
    flow: FlowTuple


class RuleResult(data.StructLayout):
    """Whether a rule names the packet, and the rule's queue."""

    def __init__(self, config: NicConfig):
        super().__init__({"found": 1, "queue": range(config.queues)})


class RuleTable(wiring.Component):
    """Find the rule that names exactly a packet's flow: both addresses and ports, TCP or UDP, IPv4 or IPv6.

    The rules lie in block RAM, in four banks; in each, :func:`hw.abi.steering.rule_places` gives a rule's one place.
    Software decides which of the four it takes. The places of a packet are read and compared whole, so no packet is
    taken for another. Where several rules name it, the lowest bank's counts.

    A command takes one cycle, in which no packet starts and none is looked up; what has begun is looked up anew. So a
    packet meets the rules as they are before a command or after it. To move a rule to another of its places, software
    inserts it there before it reuses the old one. Commands that make no sense change nothing and are reported, as
    :class:`hw.abi.steering.RuleError`.

    At 512 bits a packet starts every cycle; at 256 every second, at 128 and 64 every fourth, whose banks are read one
    after another from one memory. ``done`` comes ``latency`` cycles after ``start`` (5 at 512 bits, 8 at 64) where no
    other packet and no command is in the way, in order, and waits for nobody. After a reset the table is cleared, a
    place of each memory a cycle: until then ``busy`` is set and no packet starts.

    Members
    -------
    window : registers
    start, packet_type, flow : a packet begins, only while ``ready``; also one that no rule can name
    ready : a packet may start
    done, result : :class:`RuleResult` of the oldest packet, for one cycle
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._lanes = max(RULE_BANKS * config.data_width // 512, 1)
        self._slot_bits = (rule_slots(config.steering_rules) - 1).bit_length()
        super().__init__(
            {
                "window": In(RuleWindow()),
                "start": In(1),
                "packet_type": In(PacketType),
                "flow": In(FlowTuple),
                "ready": Out(1),
                "done": Out(1),
                "result": Out(RuleResult(config)),
            }
        )

    @property
    def steps(self) -> int:
        """Cycles for a packet."""
        return RULE_BANKS // self._lanes

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to ``done``, where nothing is in the way."""
        return self.steps + 4

    def elaborate(self, platform: object) -> Module:
        m = Module()
        key = Signal(RuleKey)
        m.d.comb += key.eq(_key(self.packet_type.network, self.packet_type.transport, self.flow))

        # What decides on the places, then their hash; from then on, one step of reading each cycle. A place is never
        # read while one is written, so no memory has to promise what is read then.
        folded, places = Signal(8 * RULE_MESSAGE_BYTES), Signal(8 * RULE_BANKS)
        step = Signal(range(self.steps))
        started, reading, pause = Signal(), Signal(), Signal()
        last = step == self.steps - 1
        ports = self._memories(m, pause)
        moves = ~reading | last
        m.d.comb += self.ready.eq(~pause & (~started | moves))
        with m.If(pause):
            m.d.sync += step.eq(0)
        with m.Else():
            with m.If(self.start):
                m.d.sync += [folded.eq(_message(self.flow)), started.eq(1)]
            with m.Elif(moves):
                m.d.sync += started.eq(0)
            with m.If(moves):
                m.d.sync += [places.eq(_hash(folded)), reading.eq(started), step.eq(0)]
            with m.Else():
                m.d.sync += step.eq(step + 1)
        banks = Array(places[8 * bank :][: self._slot_bits] for bank in range(RULE_BANKS))
        for lane, port in enumerate(ports):
            place = Array(banks[number * self._lanes + lane] for number in range(self.steps))[step]
            m.d.comb += [port.addr.eq(Cat(place, step)), port.en.eq(~pause)]

        # The entries in flip-flops behind the block RAM, and the packet's key beside them.
        m.submodules.keys = keys = SyncFIFO(width=len(key.as_value()), depth=_WAITING)
        entries = [Signal.like(port.data, name=f"entry_{lane}") for lane, port in enumerate(ports)]
        wanted = Signal(RuleKey)
        read, first_read, last_read = Signal(), Signal(), Signal()
        compared, first, ends = Signal(), Signal(), Signal()
        m.d.comb += [keys.w_en.eq(self.start), keys.w_data.eq(key), keys.r_en.eq(last_read)]
        m.d.sync += [
            Cat(read, first_read, last_read).eq(Cat(Const(1), step == 0, last) & (reading & ~pause).replicate(3)),
            Cat(compared, first, ends).eq(Cat(read, first_read, last_read)),
            self.done.eq(ends),
        ]
        with m.If(first_read):
            m.d.sync += wanted.eq(keys.r_data)
        with m.If(read):
            m.d.sync += [entry.eq(port.data) for entry, port in zip(entries, ports)]

        found, queue = Signal(), Signal.like(self.result.queue)
        for entry in reversed(entries):
            with m.If(entry.key.as_value() == wanted.as_value()):
                m.d.comb += [found.eq(wanted.valid), queue.eq(entry.queue)]
        with m.If(compared & (first | ~self.result.found)):
            m.d.sync += self.result.eq(Cat(found, queue))
        return m

    def _memories(self, m: Module, pause: Signal) -> list[Any]:
        """The banks, and what changes them: clearing after a reset, then commands. Gives a read port of each memory."""
        config, window, lanes = self._config, self.window, self._lanes
        layout = data.StructLayout({"key": RuleKey, "queue": self.result.queue.shape()})
        depth = self.steps << self._slot_bits
        clearing = Signal(range(depth + 1))
        cleared = clearing[-1]
        with m.If(~cleared):
            m.d.sync += clearing.eq(clearing + 1)

        rule = Signal(RuleKey)
        error = Signal(RuleError)
        m.d.comb += rule.eq(
            _key(
                window.network,
                window.transport,
                Cat(window.source, window.destination, window.source_port, window.destination_port),
            )
        )
        with m.If(~cleared):
            m.d.comb += error.eq(RuleError.BUSY)
        with m.Elif(window.index >= RULE_BANKS << self._slot_bits):
            m.d.comb += error.eq(RuleError.INDEX)
        with m.Elif(window.insert & (window.queue >= config.queues)):
            m.d.comb += error.eq(RuleError.QUEUE)
        with m.Elif(window.insert & ~rule.valid):
            m.d.comb += error.eq(RuleError.PACKET_TYPE)
        command = window.insert | window.remove
        with m.If(command):
            m.d.sync += window.error.eq(error)

        slot, bank = window.index[: self._slot_bits], window.index[self._slot_bits :][: (RULE_BANKS - 1).bit_length()]
        lane_bits = (lanes - 1).bit_length()
        entry = Signal(layout)
        m.d.comb += entry.eq(Mux(cleared & window.insert, Cat(rule, window.queue), 0))
        m.d.comb += [self.window.busy.eq(~cleared), pause.eq(~cleared | command)]
        ports = []
        for lane in range(lanes):
            m.submodules[f"bank_{lane}"] = memory = Memory(shape=layout, depth=depth, init=[])
            port = memory.write_port()
            chosen = command & (error == RuleError.NONE) & (bank[:lane_bits] == lane)
            m.d.comb += [
                port.addr.eq(Mux(cleared, Cat(slot, bank[lane_bits:]), clearing)),
                port.data.eq(entry),
                port.en.eq(~cleared | chosen),
            ]
            ports.append(memory.read_port())
        return ports


def _key(network: Any, transport: Any, flow: Any) -> Value:
    """As :class:`RuleKey`."""
    ipv6, udp = network == NetworkLayer.IPV6, transport == TransportLayer.UDP
    valid = ((network == NetworkLayer.IPV4) | ipv6) & ((transport == TransportLayer.TCP) | udp)
    return Cat(valid, ipv6, udp, flow)


def _message(flow: Any) -> Value:
    """:func:`hw.abi.steering.rule_message` in hardware."""
    addresses = (flow.source, flow.destination)
    words = ([address[low : low + 32] for low in range(0, len(address), 32)] for address in addresses)
    return Cat(*(reduce(xor, each) for each in words), flow.source_port, flow.destination_port)


def _hash(message: Value) -> Value:
    """:func:`hw.abi.steering.rule_hash` in hardware: it is linear, so its values at single bits are all of it."""
    columns = [rule_hash(1 << place) for place in range(len(message))]
    rows = ([bit for bit, column in zip(message, columns) if column >> place & 1] for place in range(8 * RULE_BANKS))
    return Cat(Cat(row).xor() for row in rows)
