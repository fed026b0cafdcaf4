# SPDX-License-Identifier: BSD-2-Clause
"""Which frames ask for what cannot be done."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import CompletionError
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

    Jobs keep their order; each takes two cycles, one a cycle.

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
        held, job = Signal(), Signal(self._job)
        output = self.output
        moves = Signal()
        m.d.comb += [
            moves.eq(~output.valid | output.ready),
            self.input.ready.eq(~held | moves),
        ]
        with m.If(self.input.ready):
            m.d.sync += [held.eq(self.input.valid), job.eq(self.input.payload)]

        offload = job.offload
        l3_end = offload.l2_length + offload.l3_length
        checksum_end = offload.checksum_start + offload.checksum_offset + CHECKSUM_BYTES
        l4_asked = offload.insert_l4_checksum
        if self._config.segmentation:
            l4_asked &= ~offload.segment
        header_fits, checksum_fits, refused = Signal(), Signal(), Signal()
        m.d.comb += [
            header_fits.eq((offload.l2_length >= MIN_FRAME) & _is_header(offload.l3_length) & (l3_end <= job.length)),
            checksum_fits.eq(checksum_end <= job.length),
            refused.eq(
                (offload.insert_ip_checksum & ~(offload.has_context & header_fits))
                | (l4_asked & ~checksum_fits)
                | (offload.insert_vlan & ~offload.has_context)
                | self._refused_request(job)
            ),
        ]
        with m.If(moves):
            m.d.sync += [output.valid.eq(held), output.payload.eq(job)]
            with m.If(refused & ~job.aborted & (job.error == CompletionError.NONE)):
                m.d.sync += output.payload.error.eq(CompletionError.OFFLOAD)
        return m

    def _refused_request(self, job):
        """It is a request for segmentation that cannot be done."""
        if not self._config.segmentation:
            return 0
        offload = job.offload
        headers = offload.l2_length + offload.l3_length + offload.l4_length
        fits = (
            offload.has_context
            & (offload.mss != 0)
            & (headers + offload.mss <= self._config.max_frame)
            & (headers < job.length)
            & (headers <= MAX_HEADERS)
            & (offload.l2_length >= MIN_FRAME)
            & ~offload.l2_length[0]
            & (offload.insert_ip_checksum | (offload.l3_length == IPV6_HEADER))
            & _is_header(offload.l4_length)
            & ~offload.early_report
        )
        return offload.segment & ~fits


def _is_header(length):
    """An IPv4 or TCP header can have this length."""
    return (length >= MIN_HEADER) & (length <= MAX_HEADER) & (length[:2] == 0)
