# SPDX-License-Identifier: BSD-2-Clause
"""Headers of segments: checked once, and made to fit each segment."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.config import NicConfig
from hw.nic.tx.layouts import GatheredWord, TxFrameJob

HALF = 16
INDEX_BITS = 9
POSITION_BITS = 8
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
PROTOCOL_TCP = 6
FRAGMENT = 0x3FFF  #: of an IPv4 header's fourth 16 bits: more fragments follow, or this is not the first (RFC 791)
FIN, PSH, CWR = 0x01, 0x08, 0x80
EDIT_STAGES = 3


class TxHeaderEdit(wiring.Component):
    """Pass words on their way to the packet buffer three cycles later, segments' headers edited.

    Of a request's first segment the EtherType, IP version, lengths, fragmentation and protocol, and TCP's length are
    looked at. If they are not those of TCP over unfragmented IPv4 (where ``insert_ip_checksum`` says so) or over IPv6
    without extension headers, with the lengths of the context, all segments come with ``discard`` in their last word,
    and ``refused`` is high from then on until words of another job come.

    Else each gets the IPv4 total length or IPv6 payload length of its own; the IPv4 identification plus its number; the
    sequence number plus the payload before it; CWR only in the first, FIN and PSH only in the last.

    Members
    -------
    word, address, job : from the gather; the job with a frame's first word
    edited, edited_address, edited_job : to the packet buffer and :class:`hw.nic.tx.checksums.TxChecksums`
    discard : with a frame's last word: it is not to be sent
    refused : the verdict on the last segment that came
    """

    def __init__(self, config: NicConfig):
        self._config = config
        words = config.tx_buffer_bytes // config.beat_bytes
        super().__init__(
            {
                "word": In(GatheredWord(config)),
                "address": In(range(words)),
                "job": In(TxFrameJob(config)),
                "edited": Out(GatheredWord(config)),
                "edited_address": Out(range(words)),
                "edited_job": Out(TxFrameJob(config)),
                "discard": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job = Signal(TxFrameJob(self._config))
        word, address, index = Signal(self._word_shape()), Signal.like(self.address), Signal(INDEX_BITS)
        l2, l4 = Signal(POSITION_BITS), Signal(POSITION_BITS)  # in 16-bit units
        offload = self.job.offload
        m.d.sync += [word.eq(self._cat(self.word)), address.eq(self.address)]
        with m.If(self.word.strobe):
            m.d.sync += index.eq(Mux(self.word.first, 0, index + ~index.all()))
            with m.If(self.word.first):
                m.d.sync += [
                    job.eq(self.job),
                    l2.eq(offload.l2_length >> 1),
                    l4.eq((offload.l2_length + offload.l3_length) >> 1),
                ]

        ipv4 = job.offload.insert_ip_checksum
        places = {
            "ethertype": l2 - 1,
            "version": l2,
            "total_length": l2 + 1,
            "identification": l2 + 2,
            "fragment": l2 + 3,
            "protocol": Mux(ipv4, l2 + 4, l2 + 3),
            "sequence_high": l4 + 2,
            "sequence_low": l4 + 3,
            "flags": l4 + 6,
        }
        lane_bits = ceil_log2(self._config.data_width // HALF)
        hits, lanes = {}, {}
        for name, place in places.items():
            position = Signal(POSITION_BITS, name=f"{name}_place")
            m.d.comb += position.eq(place)
            hits[name], lanes[name] = position[lane_bits:] == index, position[:lane_bits]

        seen = self._capture(m, word, hits, lanes, job)
        self._edit(m, word, address, hits, lanes, job, seen)
        return m

    def _capture(self, m: Module, word, hits, lanes, job):
        """The fields of the first segment's headers, from the cycle after their word, in the host's byte order."""
        seen = {}
        for name, hit in hits.items():
            seen[name] = Signal(HALF, name=name)
            raw = word[: self._config.data_width].word_select(lanes[name], HALF)
            with m.If(word[-3] & job.segment.first & hit):
                m.d.sync += seen[name].eq(_swapped(raw))
        return seen

    def _edit(self, m: Module, word, address, hits, lanes, job, seen) -> None:
        width = self._config.data_width
        segment, ipv4 = job.segment, job.offload.insert_ip_checksum
        sequence = Signal(32)
        m.d.comb += sequence.eq(Cat(seen["sequence_low"], seen["sequence_high"]) + segment.offset)
        later = segment.present & ~segment.first
        values = {
            "total_length": (segment.present & ipv4, segment.l4_bytes + job.offload.l3_length),
            "identification": (
                segment.present & (~ipv4 | ~segment.first),
                Mux(ipv4, seen["identification"] + segment.index, segment.l4_bytes),
            ),
            "sequence_high": (later, sequence[HALF:]),
            "sequence_low": (later, sequence[:HALF]),
        }
        clears, puts = [], []
        for name, (enable, value) in values.items():
            hit, lane = Signal(name=f"{name}_hit"), Signal.like(lanes[name], name=f"{name}_lane")
            put = Signal(HALF, name=f"{name}_value")
            m.d.sync += [hit.eq(enable & hits[name]), lane.eq(lanes[name]), put.eq(_swapped(value[:HALF]))]
            clears.append(hit.replicate(HALF) << (lane << 4))
            puts.append(Mux(hit, put, 0) << (lane << 4))
        cleared = Signal(8)  # of the flags, which are the second byte of their 16 bits
        flags_lane = Signal.like(lanes["flags"])
        m.d.sync += [
            cleared.eq(
                Mux(
                    segment.present & hits["flags"],
                    Mux(segment.last, 0, FIN | PSH) | Mux(segment.first, 0, CWR),
                    0,
                )
            ),
            flags_lane.eq(lanes["flags"]),
        ]
        clears.append((cleared << 8) << (flags_lane << 4))

        second = Signal.like(word)
        second_address, second_job = Signal.like(address), Signal.like(job)
        m.d.sync += [second.eq(word), second_address.eq(address), second_job.eq(job)]
        clear, put = Signal(width), Signal(width)
        m.d.comb += [clear.eq(_any(clears)), put.eq(_any(puts))]
        edited = self.edited
        bad = second_job.segment.present & ~self._sound(second_job, seen)
        m.d.sync += [
            edited.data.eq(second[:width] & ~clear | put),
            edited.strobe.eq(second[-3]),
            edited.first.eq(second[-2]),
            edited.last.eq(second[-1]),
            self.edited_address.eq(second_address),
            self.edited_job.eq(second_job),
            self.refused.eq(bad),
        ]
        m.d.comb += self.discard.eq(self.refused)

    def _sound(self, job, seen):
        """The headers are what the request says."""
        offload = job.offload
        version, header_words = seen["version"][12:], seen["version"][8:12]
        ipv4 = (
            (seen["ethertype"] == ETHERTYPE_IPV4)
            & (version == 4)
            & (header_words == offload.l3_length[2:])
            & (seen["fragment"] & FRAGMENT == 0)
            & (seen["protocol"][:8] == PROTOCOL_TCP)
        )
        ipv6 = (seen["ethertype"] == ETHERTYPE_IPV6) & (version == 6) & (seen["protocol"][8:] == PROTOCOL_TCP)
        tcp = seen["flags"][12:] == offload.l4_length[2:]
        return tcp & Mux(offload.insert_ip_checksum, ipv4, ipv6)

    def _word_shape(self):
        return self._config.data_width + 3

    def _cat(self, word):
        return Cat(word.data, word.strobe, word.first, word.last)


def _swapped(value):
    return Cat(value[8:], value[:8])


def _any(values):
    result = values[0]
    for value in values[1:]:
        result |= value
    return result
