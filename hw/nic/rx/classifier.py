# SPDX-License-Identifier: BSD-2-Clause
"""What is known of each frame by the time it lies in the packet buffer."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.rings import LINE_BYTES
from hw.bus.join import join
from hw.config import NicConfig
from hw.nic.commit_fifo import CommitFifo
from hw.nic.rx.checksum import ChecksumVerdict, RxChecksum
from hw.nic.rx.headers import ObservedBeat, ParsedHeaders
from hw.nic.rx.parser import RxParser


class Classification(data.Struct):
    """A frame's headers and its checksums."""

    headers: ParsedHeaders
    checksum: ChecksumVerdict


class RxClassifier(wiring.Component):
    """Watch what :class:`hw.nic.rx.ingress.RxIngress` stores, and say what each frame is. Of a tag that was stripped it
    knows nothing.

    ::

        beats ─► parser ─► headers ──────────► FIFO ─► output
                   │ └───► plan ────┐           │
                   └─► measured ─► checksum ─► FIFO

    One classification for each kept frame, in order. It is in the FIFO :attr:`latency` cycles after the frame's last
    beat, whatever the frame is. A beat may come every cycle, and each may be a whole frame. The FIFO is as deep as the
    ingress's, so nothing is lost if frame and classification are taken together.

    Members
    -------
    beats : every beat on its way to the packet buffer (:class:`hw.nic.rx.headers.ObservedBeat`)
    output : stream of :class:`Classification`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._parser, self._checksum = RxParser(config), RxChecksum(config)
        super().__init__(
            {
                "beats": In(stream.Signature(ObservedBeat(config), always_ready=True)),
                "output": Out(stream.Signature(Classification)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a kept frame's last beat to the FIFO: 11 at 64 bits, 12 at 128 and 256, 13 at 512."""
        return RxParser.MEASURED + self._checksum.latency

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.parser, m.submodules.checksum = self._parser, self._checksum
        frames = self._config.rx_buffer_bytes // LINE_BYTES
        m.submodules.headers = headers = CommitFifo(ParsedHeaders, frames)
        m.submodules.verdicts = verdicts = CommitFifo(ChecksumVerdict, frames)
        join(m, flipped(self.beats), self._parser.beats)
        join(m, self._parser.measured, self._checksum.beats)
        join(m, self._parser.plan, self._checksum.plan)
        for fifo, source in ((headers, self._parser.headers), (verdicts, self._checksum.output)):
            m.d.comb += [
                fifo.push.eq(source.valid),
                fifo.commit.eq(source.valid),
                fifo.payload.eq(source.payload),
            ]
        taken = self.output.valid & self.output.ready
        m.d.comb += [
            self.output.valid.eq(headers.output.valid & verdicts.output.valid),
            self.output.payload.headers.eq(headers.output.payload),
            self.output.payload.checksum.eq(verdicts.output.payload),
            headers.output.ready.eq(taken),
            verdicts.output.ready.eq(taken),
        ]
        return m
