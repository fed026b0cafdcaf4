# SPDX-License-Identifier: BSD-2-Clause
"""The beats that a frame will be sent in."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import NicConfig
from hw.nic.tx.layouts import PADDED_FRAME, TAG_BYTES, TxBeats

BEATS_STAGES = 2


class FrameBeats(wiring.Component):
    """Count a frame's beats, ``BEATS_STAGES`` cycles later, so that whoever sends it need only count them down.

    Members
    -------
    length : bytes of the frame in the packet buffer
    tagged : only with ``config.tx_offload``: a tag is inserted on its way out
    beats : as it is sent
    """

    def __init__(self, config: NicConfig):
        self._config = config
        tagged = {"tagged": In(1)} if config.tx_offload else {}
        super().__init__({"length": In(16), **tagged, "beats": Out(TxBeats(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane_bits = exact_log2(self._config.beat_bytes)
        held_end, sent_end, end = (
            Signal(16),
            Signal(16),
            Signal(16),
        )  # last byte of the frame in the buffer, and as sent
        m.d.sync += [held_end.eq(self.length - 1), sent_end.eq(self.length - 1)]
        if self._config.tx_offload:
            with m.If(self.tagged):
                m.d.sync += sent_end.eq(self.length + (TAG_BYTES - 1))

        beats = self.beats
        m.d.comb += end.eq(Mux(sent_end < PADDED_FRAME, PADDED_FRAME - 1, sent_end))
        m.d.sync += [
            beats.last.eq(end >> lane_bits),
            beats.count.eq(end[:lane_bits] + 1),
            beats.pads.eq((end >> lane_bits) - (held_end >> lane_bits)),
        ]
        if self._config.tx_offload:
            # Padding has its words set aside.
            m.d.sync += beats.extra.eq((held_end >= PADDED_FRAME) & (end[lane_bits] != held_end[lane_bits]))
        return m
