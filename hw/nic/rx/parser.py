# SPDX-License-Identifier: BSD-2-Clause
"""Find the headers of each frame."""

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import NetworkLayer, TransportLayer
from hw.config import NicConfig
from hw.nic.rx.headers import (
    ETHERNET_BYTES,
    FRAGMENT_PROTOCOL,
    IPV4_TYPE,
    IPV6_BYTES,
    IPV6_TYPE,
    MIN_IPV4_WORDS,
    MIN_TCP_WORDS,
    TCP_PROTOCOL,
    UDP_BYTES,
    UDP_PROTOCOL,
    VLAN_TYPES,
    WORD_BITS,
    ChecksumPlan,
    Ipv4Header,
    Ipv6Header,
    MeasuredBeat,
    ObservedBeat,
    ParsedHeaders,
    TransportHeader,
    index_bits,
    swap,
)
from hw.nic.rx.pipeline import next_stage, register_stage

# From the EtherType's word to the last of an IPv6 header behind two tags.
FIRST_WORD, LAST_WORD = 3, 15
# IPv4's header ends behind this byte at the earliest; by then all is known that says where it does.
SHORTEST_END = 32


class RxParser(wiring.Component):
    """Recognise Ethernet, up to two VLAN tags, IPv4, IPv6, TCP and UDP.

    An observer: nothing stalls, a beat may come every cycle, and each may be a whole frame. ``measured`` repeats the
    beats :data:`MEASURED` cycles later; ``headers`` and ``plan`` say what each kept frame is :data:`PARSED` cycles
    after its last beat.

    - A frame that ends within its Ethernet header, tags included: OTHER, ``header_length`` 0, no VLAN. A third tag is
      no IP; one that was stripped before does not count.
    - IPv4 (RFC 791) with any options; IPv6 (RFC 8200), whose extension headers are not looked into, but a fragment
      header that comes first makes the packet a FRAGMENT. MALFORMED: another version, IHL below 5, a total length that
      ends within the header, or a packet that ends behind the frame.
    - A fragment of IPv4 has MF or an offset. TCP (RFC 9293) and UDP (RFC 768) are MALFORMED if the packet ends within
      the header (data offset included, which is at least 5), or the UDP length is below 8 or ends behind the packet. It
      may end before (RFC 9868): such a packet's checksum is not checked.

    ``header_length`` is 142 bytes at most. Of a malformed header nothing counts: it is that up to the layer before.
    Addresses count for IPV4 and IPV6, ports for TCP and UDP, and are anything otherwise.

    Members
    -------
    beats : every beat on its way to the packet buffer (:class:`hw.nic.rx.headers.ObservedBeat`)
    measured : :class:`hw.nic.rx.headers.MeasuredBeat`; its counts are meaningful where the frame is checked
    headers : :class:`hw.nic.rx.headers.ParsedHeaders` of each kept frame
    plan : :class:`hw.nic.rx.headers.ChecksumPlan` of the same frame, in the same cycle
    """

    MEASURED = 5
    PARSED = 7

    def __init__(self, config: NicConfig):
        self._config = config
        self._lanes = config.data_width // WORD_BITS
        self._shift = (config.beat_bytes - 1).bit_length()
        super().__init__(
            {
                "beats": In(stream.Signature(ObservedBeat(config), always_ready=True)),
                "measured": Out(stream.Signature(MeasuredBeat(config), always_ready=True)),
                "headers": Out(stream.Signature(ParsedHeaders, always_ready=True)),
                "plan": Out(stream.Signature(ChecksumPlan, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Each stage holds what is known as of its beat, so that of a frame as of its last.
        captured = self._capture(m)
        tagged = self._recognise(m, captured)
        aligned = self._align(m, tagged)
        located = self._locate(m, aligned)
        transport = self._measure(m, located)
        self._conclude(m, self._check(m, self._frame(m, located), transport))
        return m

    def _capture(self, m: Module) -> SimpleNamespace:
        """Keep the words that hold Ethernet's and IP's headers, and number the beats."""
        beat, valid = self.beats.payload, self.beats.valid
        index, next_index = Signal(index_bits(self._config)), Signal(index_bits(self._config))
        window = Signal((LAST_WORD + 1 - FIRST_WORD) * WORD_BITS)
        m.d.comb += index.eq(Mux(beat.first, 0, next_index))
        for number in range(FIRST_WORD // self._lanes, LAST_WORD // self._lanes + 1):
            words = range(max(number * self._lanes, FIRST_WORD), min((number + 1) * self._lanes, LAST_WORD + 1))
            low = (words.start - FIRST_WORD) * WORD_BITS
            lane = (words.start - number * self._lanes) * WORD_BITS
            bits = len(words) * WORD_BITS
            with m.If(valid & (index == number)):
                m.d.sync += window[low : low + bits].eq(beat.data[lane : lane + bits])
        with m.If(valid):
            m.d.sync += next_index.eq(index + 1)
        stage = register_stage(m, "captured", valid, beat=beat, index=index)
        stage.window = window
        return stage

    def _recognise(self, m: Module, last: Any) -> SimpleNamespace:
        """Tell tags and EtherTypes apart."""

        def is_one_of(byte: int, *types: int) -> Value:
            field = self._bytes(last.window, byte, 2)
            return Cat(field == int.from_bytes(kind.to_bytes(2, "big"), "little") for kind in types).any()

        one = is_one_of(12, *VLAN_TYPES)
        two = one & is_one_of(16, *VLAN_TYPES)

        def ethertype_is(kind: int) -> Value:
            return Mux(two, is_one_of(20, kind), Mux(one, is_one_of(16, kind), is_one_of(12, kind)))

        ipv4, ipv6 = ethertype_is(IPV4_TYPE), ethertype_is(IPV6_TYPE)
        return next_stage(m, "tagged", last, "beat index window", one=one, two=two, ipv4=ipv4, ipv6=ipv6)

    def _align(self, m: Module, last: Any) -> SimpleNamespace:
        """Move the IP header to bit 0."""
        ip = Mux(
            last.two,
            self._bytes(last.window, 22, IPV6_BYTES),
            Mux(last.one, self._bytes(last.window, 18, IPV6_BYTES), self._bytes(last.window, 14, IPV6_BYTES)),
        )
        places = (last.one, 14), (last.one, 16), (last.two, 18), (last.two, 20)
        tags = [Mux(present, ~self._bytes(last.window, byte, 2), 0) for present, byte in places]
        # Up to and including the last whole word of the Ethernet header.
        words = ETHERNET_BYTES * 8 // WORD_BITS + last.one + last.two
        length = (last.index << self._shift) + last.beat.count
        return next_stage(
            m,
            "aligned",
            last,
            "beat index ipv4 ipv6",
            ip=ip,
            words=words[:3],
            length=length,
            vlan=Mux(last.one, swap(self._bytes(last.window, 14, 2)), 0),
            vlan_valid=last.one,
            first_tag=tags[0] + tags[1],
            second_tag=tags[2] + tags[3],
            base_words=words + Mux(last.ipv6, IPV6_BYTES // 4, 0),
        )

    def _locate(self, m: Module, last: Any) -> SimpleNamespace:
        """Read the IP header; find where it and the packet end."""
        v4, v6 = data.View(Ipv4Header, last.ip[: 8 * MIN_IPV4_WORDS * 4]), data.View(Ipv6Header, last.ip)
        total_length, v6_length = swap(v4.total_length), swap(v6.payload_length)
        v4_length = total_length - (v4.words << 2)  # negative if the packet ends within the header
        v4_good = (v4.version == 4) & (v4.words >= MIN_IPV4_WORDS) & (v4_length >= 0)
        protocol = Mux(last.ipv6, v6.next_header, v4.protocol)
        v4_fragment = v4.more_fragments | Cat(v4.offset_low, v4.offset_high).any()
        # What turns the sum of the packet into that of payload and pseudo header. A right IPv4 header sums to zero, so
        # all of the pseudo header is missing. IPv6's has addresses and length in common with it; the rest is too much.
        excess = Cat(~last.ip[:32], ~last.ip[48:64], C(0, 16))
        return next_stage(
            m,
            "located",
            last,
            "beat index length words ipv4 ipv6 vlan vlan_valid",
            good=Mux(last.ipv6, v6.version == 6, v4_good),
            packet_end=_start(last.base_words) + Mux(last.ipv6, v6_length, total_length),
            transport_word=(last.base_words + Mux(last.ipv6, 0, v4.words))[:5],
            payload_length=Mux(last.ipv6, v6_length, v4_length[:16]),
            fragment=Mux(last.ipv6, protocol == FRAGMENT_PROTOCOL, v4_fragment),
            tcp=protocol == TCP_PROTOCOL,
            udp=protocol == UDP_PROTOCOL,
            protocol=protocol,
            source=Mux(last.ipv6, v6.source, v4.source),
            destination=Mux(last.ipv6, v6.destination, v4.destination),
            addends=Mux(last.ipv6, excess, Cat(v4.source, v4.destination)),
            untag=last.first_tag + last.second_tag,
        )

    def _measure(self, m: Module, last: Any) -> Any:
        """Count the beat's bytes before each end, and keep its words of the transport header."""
        size = self._config.beat_bytes

        def bytes_before(end: Value) -> Value:
            number, rest = end >> self._shift, end[: self._shift]
            covered = (number > last.index) | (last.index < SHORTEST_END // size)
            return Mux(covered, size, Mux(number == last.index, rest, 0))

        transport = Signal(TransportHeader)
        for i in range(4):
            word = last.transport_word + i
            lane, number = word[: self._shift - 2], word >> (self._shift - 2)
            with m.If(last.valid & (number == last.index)):
                chosen = last.beat.data.word_select(lane, WORD_BITS)
                taken = Value.cast(transport)[i * WORD_BITS : (i + 1) * WORD_BITS]
                m.d.sync += taken.eq(chosen)
        header_count, packet_count = bytes_before(_start(last.transport_word)), bytes_before(last.packet_end)
        stage = next_stage(m, "measured", last, "beat index", header_count=header_count, packet_count=packet_count)
        out = self.measured.payload
        m.d.comb += [self.measured.valid.eq(stage.valid), out.index.eq(stage.index)]
        m.d.comb += [out[name].eq(stage.beat[name]) for name, _ in ObservedBeat(self._config)]
        m.d.comb += [out.header_count.eq(stage.header_count), out.packet_count.eq(stage.packet_count)]
        return transport

    def _frame(self, m: Module, last: Any) -> SimpleNamespace:
        """A frame is whole: compare its length."""
        addends = [last.addends.word_select(i, 16) for i in range(4)]
        return next_stage(
            m,
            "frame",
            last,
            "words ipv4 ipv6 vlan vlan_valid transport_word payload_length fragment tcp udp source destination untag",
            valid=last.valid & last.beat.keep,
            linked=last.length >= _start(last.words),
            good=last.good & (last.packet_end <= last.length),
            low=addends[0] + addends[1],
            high=addends[2] + addends[3],
            # IPv6's length stands in its header.
            pseudo=(last.protocol << 8) + Mux(last.ipv6, 0, swap(last.payload_length)),
        )

    def _check(self, m: Module, last: Any, transport: Any) -> SimpleNamespace:
        """Compare the transport header with the packet."""
        length, udp_length = last.payload_length, swap(transport.udp_length)
        whole = last.linked & last.good & ~last.fragment
        tcp_fits = (length >= MIN_TCP_WORDS * 4) & (length >= (transport.tcp_words << 2))
        return next_stage(
            m,
            "checked",
            last,
            "linked good fragment words ipv4 ipv6 vlan vlan_valid transport_word source destination untag",
            tcp=whole & last.tcp,
            udp=whole & last.udp,
            source_port=transport.source_port,
            destination_port=transport.destination_port,
            tcp_words=transport.tcp_words,
            tcp_good=(transport.tcp_words >= MIN_TCP_WORDS) & tcp_fits,
            udp_good=(length >= UDP_BYTES) & (udp_length >= UDP_BYTES) & (length >= udp_length),
            udp_fills=length == udp_length,
            udp_summed=transport.udp_checksum != 0,
            addends=last.low + last.high,
            pseudo=last.pseudo + last.untag,
        )

    def _conclude(self, m: Module, last: Any) -> None:
        """Name what was found."""
        headers, plan = Signal.like(self.headers.payload), Signal.like(self.plan.payload)
        network, transport = headers.packet_type.network, headers.packet_type.transport
        tcp, udp = last.tcp & last.tcp_good, last.udp & last.udp_good
        malformed = (last.tcp & ~last.tcp_good) | (last.udp & ~last.udp_good)
        ip = Signal()
        with m.If(last.linked & (last.ipv4 | last.ipv6)):
            with m.If(~last.good):
                m.d.comb += network.eq(NetworkLayer.MALFORMED)
            with m.Else():
                m.d.comb += [ip.eq(1), network.eq(Mux(last.ipv4, NetworkLayer.IPV4, NetworkLayer.IPV6))]
        with m.If(ip):
            with m.If(last.fragment):
                m.d.comb += transport.eq(TransportLayer.FRAGMENT)
            with m.Elif(tcp):
                m.d.comb += transport.eq(TransportLayer.TCP)
            with m.Elif(udp):
                m.d.comb += transport.eq(TransportLayer.UDP)
            with m.Elif(malformed):
                m.d.comb += transport.eq(TransportLayer.MALFORMED)

        words = Signal(6)
        with m.If(ip):
            m.d.comb += words.eq(last.transport_word + Mux(tcp, last.tcp_words, Mux(udp, UDP_BYTES // 4, 0)))
        with m.Else():
            m.d.comb += words.eq(last.words)
        flow = headers.flow
        m.d.comb += [
            headers.header_length.eq(Mux(last.linked, _start(words), 0)),
            headers.vlan.eq(Mux(last.linked, last.vlan, 0)),
            headers.vlan_valid.eq(last.linked & last.vlan_valid),
            flow.source.eq(last.source),
            flow.destination.eq(last.destination),
            flow.source_port.eq(last.source_port),
            flow.destination_port.eq(last.destination_port),
            plan.check_header.eq(ip & last.ipv4 & ~malformed),
            plan.check_payload.eq(ip & (tcp | (udp & last.udp_fills & last.udp_summed))),
            plan.bad.eq(ip & udp & last.ipv6 & ~last.udp_summed),
            plan.header_rest.eq(last.untag),
            plan.payload_rest.eq(last.addends + last.pseudo),
        ]
        stage = register_stage(m, "parsed", last.valid, headers=headers, plan=plan)
        m.d.comb += [
            self.headers.valid.eq(stage.valid),
            self.headers.payload.eq(stage.headers),
            self.plan.valid.eq(stage.valid),
            self.plan.payload.eq(stage.plan),
        ]

    @staticmethod
    def _bytes(window: Value, byte: int, count: int) -> Value:
        """Bytes of the frame that the window holds."""
        low = 8 * (byte - FIRST_WORD * WORD_BITS // 8)
        return window[low : low + 8 * count]


def _start(word: Value) -> Value:
    """The byte where the header that begins in a word does."""
    return Cat(C(2, 2), word)
