# SPDX-License-Identifier: BSD-2-Clause
"""Receive-side scaling: a queue by a hash of whose packet it is."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.abi.rings import NetworkLayer, PacketType, TransportLayer
from hw.abi.steering import RSS_TABLE_ENTRIES, RSS_TABLE_ROW
from hw.config import NicConfig
from hw.nic.rx.interfaces import RssControl
from hw.nic.rx.layouts import FlowTuple
from hw.nic.rx.toeplitz import Toeplitz

IPV4_BITS = 32
_MOST_STEPS = 8  #: cycles in which the shortest frame comes in at 64 bits


class RssResult(data.StructLayout):
    """A packet's hash, and the queue that the indirection table names for it."""

    def __init__(self, config: NicConfig):
        super().__init__({"hash": 32, "queue": range(config.queues)})


class RxRss(wiring.Component):
    """Hash packets with the Toeplitz function, and look the hash's low 7 bits up in the indirection table.

    What is hashed is, in the order of the wire, source and destination address, and behind them source and destination
    port where the packet is whole TCP or UDP and the type with ports is enabled; a packet that only the type without
    ports fits is hashed by its addresses. So Microsoft's RSS and the 82599's MRQC define it. An entry of the table that
    was never written names queue 0.

    At 512 bits a packet starts every cycle, at 64 every eighth, as fast as the shortest frames can come in. ``done``
    comes ``latency`` cycles after ``start`` (4 at 512 bits, 11 at 64), in order, and waits for nobody. Types count in
    the cycle of ``start``, key and table while the packet is looked up: software changes them while the types are off,
    or some packets find a queue by neither the old nor the new ones.

    Members
    -------
    control : registers
    start, packet_type, flow : a packet begins, only while ``ready``; also one that ``hashed`` is off for, whose result
        means nothing
    ready : a packet may start
    hashed, hashed_ports : a type that is enabled fits this packet, and one with ports does; same cycle
    done, result : :class:`RssResult` of the oldest packet, for one cycle
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._toeplitz = Toeplitz(_MOST_STEPS * 64 // config.data_width)
        super().__init__(
            {
                "control": In(RssControl()),
                "start": In(1),
                "packet_type": In(PacketType),
                "flow": In(FlowTuple),
                "ready": Out(1),
                "hashed": Out(1),
                "hashed_ports": Out(1),
                "done": Out(1),
                "result": Out(RssResult(config)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to ``done``."""
        return self._toeplitz.steps + 3

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.toeplitz = toeplitz = self._toeplitz
        types, network, transport = self.control.types, self.packet_type.network, self.packet_type.transport
        by_addresses, by_ports = Signal(), Signal()
        for layer, plain, tcp, udp in (
            (NetworkLayer.IPV4, types.ipv4, types.tcp_ipv4, types.udp_ipv4),
            (NetworkLayer.IPV6, types.ipv6, types.tcp_ipv6, types.udp_ipv6),
        ):
            with m.If(network == layer):
                is_tcp, is_udp = transport == TransportLayer.TCP, transport == TransportLayer.UDP
                m.d.comb += [by_addresses.eq(plain), by_ports.eq((is_tcp & tcp) | (is_udp & udp))]

        flow = self.flow
        ports = Mux(by_ports, Cat(flow.source_port, flow.destination_port), 0)
        m.d.comb += [
            self.hashed.eq(by_addresses | by_ports),
            self.hashed_ports.eq(by_ports),
            toeplitz.key.eq(self.control.key),
            toeplitz.start.eq(self.start),
            toeplitz.message.eq(
                Mux(
                    network == NetworkLayer.IPV4,
                    Cat(flow.source[:IPV4_BITS], flow.destination[:IPV4_BITS], ports),
                    Cat(flow.source, flow.destination, ports),
                )
            ),
            self.ready.eq(toeplitz.ready),
        ]
        self._look_up(m, toeplitz)
        return m

    def _look_up(self, m: Module, toeplitz: Toeplitz) -> None:
        """The indirection table: a row of entries at a time, for software and for hashes."""
        rows = RSS_TABLE_ENTRIES // RSS_TABLE_ROW
        column_bits = (RSS_TABLE_ROW - 1).bit_length()
        bits = max((self._config.queues - 1).bit_length(), 1)
        m.submodules.table = table = Memory(shape=data.ArrayLayout(bits, RSS_TABLE_ROW), depth=rows, init=[])
        write, lookup, readback = table.write_port(), table.read_port(), table.read_port()
        access = self.control.table
        hashed = Signal.like(toeplitz.hash)
        row = toeplitz.hash[column_bits:][: (rows - 1).bit_length()]
        written = Signal(rows)
        filled, filled_back = Signal(), Signal()
        with m.If(access.write):
            m.d.sync += written.bit_select(access.row, 1).eq(1)
        m.d.sync += [
            self.done.eq(toeplitz.done),
            hashed.eq(toeplitz.hash),
            filled.eq(written.bit_select(row, 1)),
            filled_back.eq(written.bit_select(access.row, 1)),
        ]
        queues = Cat(Cat(readback.data[place], Const(0, 8 - bits)) for place in range(RSS_TABLE_ROW))
        m.d.comb += [
            write.en.eq(access.write),
            write.addr.eq(access.row),
            write.data.eq(Cat(access.data[8 * place :][:bits] for place in range(RSS_TABLE_ROW))),
            lookup.addr.eq(row),
            readback.addr.eq(access.row),
            access.value.eq(Mux(filled_back, queues, 0)),
            self.result.hash.eq(hashed),
            self.result.queue.eq(Mux(filled, lookup.data[hashed[:column_bits]], 0)),
        ]
