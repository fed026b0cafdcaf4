# SPDX-License-Identifier: BSD-2-Clause
"""Which frames ask for what cannot be done."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import CompletionError
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.tx.layouts import MIN_FRAME, TxJob

MIN_HEADER, MAX_HEADER = 20, 60  #: of IPv4 and of TCP
IPV6_HEADER = 40
MAX_HEADERS = 256  #: of a request, together
CHECKSUM_BYTES = 2


class OffloadCheck(wiring.Component):
    """Give jobs whose offloads cannot be done the error OFFLOAD, before anything of them is read.

    These are: a TCP or UDP checksum that does not lie in the frame; an IPv4 header that does not, or whose length is
    not one of 20, 24 ... 60 bytes; and, without a context, an IPv4 checksum or a tag. Nothing is looked up in the frame
    itself, so a length that is merely wrong sums the wrong bytes of its own frame.

    A request for segmentation needs a context with an MSS of which segments of at most ``config.max_frame`` bytes come;
    headers of an even length before IP, of an IPv4 header as above with ``insert_ip_checksum``, or else of IPv6's 40
    bytes, of 20, 24 ... 60 bytes of TCP, together at most 256, and a byte of payload; and no completion may be asked
    for before its last descriptor.

    Jobs keep their order; each takes four cycles, one a cycle. Both handshakes come from registers.

    Members
    -------
    input, output : streams of :class:`hw.nic.tx.layouts.TxJob`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._job = TxJob(config)
        super().__init__({"input": In(stream.Signature(self._job)), "output": Out(stream.Signature(self._job))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.skid = skid = SkidBuffer(self._job)
        connect(m, skid.output, flipped(self.output))
        moves = skid.input.ready
        m.d.comb += self.input.ready.eq(moves)
        valid, job = [Signal(name=f"valid_{stage}") for stage in range(3)], Signal(self._job)
        summed, compared = Signal(self._job), Signal(self._job)
        with m.If(moves):
            m.d.sync += [
                Cat(valid).eq(Cat(self.input.valid, *valid)),
                job.eq(self.input.payload),
                summed.eq(job),
                compared.eq(summed),
            ]

        # What lengths there are, then which of them fit, then what follows.
        offload = job.offload
        l3_end, checksum_end, is_l3_header = Signal(9), Signal(9), Signal()
        header_fits, checksum_fits = Signal(), Signal()
        with m.If(moves):
            m.d.sync += [
                l3_end.eq(offload.l2_length + offload.l3_length),
                checksum_end.eq(offload.checksum_start + offload.checksum_offset + CHECKSUM_BYTES),
                is_l3_header.eq((offload.l2_length >= MIN_FRAME) & _is_header(offload.l3_length)),
                header_fits.eq(is_l3_header & (l3_end <= summed.length)),
                checksum_fits.eq(checksum_end <= summed.length),
            ]
        asked = compared.offload
        l4_refused, refused = asked.insert_l4_checksum & ~checksum_fits, Signal()
        if self._config.segmentation:
            l4_refused = Mux(asked.segment, ~self._request_fits(m, moves, job, summed), l4_refused)
        m.d.comb += [
            refused.eq(
                (asked.insert_ip_checksum & ~(asked.has_context & header_fits))
                | l4_refused
                | (asked.insert_vlan & ~asked.has_context)
            ),
            skid.input.valid.eq(valid[-1]),
            skid.input.payload.eq(compared),
        ]
        with m.If(refused & ~compared.aborted & (compared.error == CompletionError.NONE)):
            m.d.comb += skid.input.payload.error.eq(CompletionError.OFFLOAD)
        return m

    def _request_fits(self, m: Module, moves, job, summed):
        """A request for segmentation can be done: of ``job`` two cycles later."""
        offload = job.offload
        headers, room = Signal(10), Signal(signed(17))  # and what the longest frame leaves for them
        sound, fits = Signal(), Signal()
        with m.If(moves):
            m.d.sync += [
                headers.eq(offload.l2_length + offload.l3_length + offload.l4_length),
                room.eq(self._config.max_frame - offload.mss),
                sound.eq(
                    offload.has_context
                    & (offload.mss != 0)
                    & (offload.l2_length >= MIN_FRAME)
                    & ~offload.l2_length[0]
                    & (offload.insert_ip_checksum | (offload.l3_length == IPV6_HEADER))
                    & _is_header(offload.l4_length)
                    & ~offload.early_report
                ),
                fits.eq(sound & (headers <= room) & (headers < summed.length) & (headers <= MAX_HEADERS)),
            ]
        return fits


def _is_header(length):
    """An IPv4 or TCP header can have this length."""
    return (length >= MIN_HEADER) & (length <= MAX_HEADER) & (length[:2] == 0)
