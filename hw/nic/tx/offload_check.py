# SPDX-License-Identifier: BSD-2-Clause
"""Which frames ask for what cannot be done."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import CompletionError
from hw.config import NicConfig
from hw.nic.tx.layouts import MIN_FRAME, TxJob

MIN_IPV4_HEADER, MAX_IPV4_HEADER = 20, 60
CHECKSUM_BYTES = 2


class OffloadCheck(wiring.Component):
    """Give jobs whose offloads cannot be done the error OFFLOAD, before anything of them is read.

    These are: a TCP or UDP checksum that does not lie in the frame; an IPv4 header that does not, or whose length is
    not one of 20, 24 ... 60 bytes; and, without a context, an IPv4 checksum or a tag. Nothing is looked up in the frame
    itself, so a length that is merely wrong sums the wrong bytes of its own frame.

    Jobs keep their order; each takes two cycles, one a cycle.

    Members
    -------
    input, output : streams of :class:`hw.nic.tx.layouts.TxJob`
    """

    def __init__(self, config: NicConfig):
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
        header_fits, checksum_fits, refused = Signal(), Signal(), Signal()
        m.d.comb += [
            header_fits.eq(
                (offload.l2_length >= MIN_FRAME)
                & (offload.l3_length >= MIN_IPV4_HEADER)
                & (offload.l3_length <= MAX_IPV4_HEADER)
                & (offload.l3_length[:2] == 0)
                & (l3_end <= job.length)
            ),
            checksum_fits.eq(checksum_end <= job.length),
            refused.eq(
                (offload.insert_ip_checksum & ~(offload.has_context & header_fits))
                | (offload.insert_l4_checksum & ~checksum_fits)
                | (offload.insert_vlan & ~offload.has_context)
            ),
        ]
        with m.If(moves):
            m.d.sync += [output.valid.eq(held), output.payload.eq(job)]
            with m.If(refused & ~job.aborted & (job.error == CompletionError.NONE)):
                m.d.sync += output.payload.error.eq(CompletionError.OFFLOAD)
        return m
