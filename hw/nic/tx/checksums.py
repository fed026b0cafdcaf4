# SPDX-License-Identifier: BSD-2-Clause
"""Checksums of frames on their way into the packet buffer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.config import NicConfig
from hw.nic.tx.delay import delay
from hw.nic.tx.frame_beats import BEATS_STAGES, FrameBeats
from hw.nic.tx.layouts import GatheredWord, TxFrame, TxFrameJob
from hw.nic.tx.sums import FOLD_STAGES, OnesComplementFold, SumTree

IPV4_CHECKSUM = 10  #: bytes from an IPv4 header's start to its checksum (RFC 791)
CHECKSUM_BYTES = 2
BOUND_BITS = 9
SELECT_STAGES = 2


class TxChecksums(wiring.Component):
    """Sum each frame's words, and say what is to be done to the frame on its way out.

    The TCP or UDP checksum is that of all bytes from ``checksum_start`` on, the pseudo-header's sum in its own place
    included; for a segment the length is added, which that sum lacks. The IPv4 header's is that of its bytes without
    its own (RFC 1071; 0xFFFF stands for 0, as in ``skb_checksum_help``). Both are of the frame as it is in the buffer.

    A frame appears on ``frame``, with ``strobe``, a fixed number of cycles after its last word: seven at 64 bits,
    eight at 128 and 256, nine at 512. Nothing waits: frames of one word pass one a cycle.

    Members
    -------
    word : :class:`GatheredWord`
    job : the frame's, with its first word
    discard : only with ``config.segmentation``: with the last word: the frame is not to be sent
    strobe, frame : the frame is summed
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "word": In(GatheredWord(config)),
            "job": In(TxFrameJob(config)),
            "strobe": Out(1),
            "frame": Out(TxFrame(config)),
        }
        if config.segmentation:
            members["discard"] = In(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word, job = self.word, Signal(TxFrameJob(self._config))
        offload = self.job.offload
        l3_end = offload.l2_length + offload.l3_length
        checksum = offload.l2_length + IPV4_CHECKSUM
        bounds = [
            Signal(BOUND_BITS, name=name)
            for name in ("l4_start", "l3_start", "checksum_start", "checksum_end", "l3_end")
        ]
        data, index = Signal.like(word.data), Signal(BOUND_BITS)
        valid, first, last = Signal(), Signal(), Signal()
        with m.If(word.strobe):
            m.d.sync += [
                data.eq(word.data),
                first.eq(word.first),
                last.eq(word.last),
                # Beyond all bounds it stays where it is.
                index.eq(Mux(word.first, 0, index + ~index.all())),
            ]
            with m.If(word.first):
                m.d.sync += job.eq(self.job)
                values = (offload.checksum_start, offload.l2_length, checksum, checksum + CHECKSUM_BYTES, l3_end)
                m.d.sync += [bound.eq(value) for bound, value in zip(bounds, values, strict=True)]
        m.d.sync += valid.eq(word.strobe)

        l4_start, l3_start, checksum_start, checksum_end, l3_end = (self._from(bound, index) for bound in bounds)
        l4_bytes, ip_bytes = Signal(len(data) // 8), Signal(len(data) // 8)
        selected, l4, ip = Signal.like(data), Signal.like(data), Signal.like(data)
        m.d.sync += [
            l4_bytes.eq(l4_start),
            ip_bytes.eq((l3_start & ~checksum_start) | (checksum_end & ~l3_end)),
            selected.eq(data),
            l4.eq(selected & _bytes(l4_bytes)),
            ip.eq(selected & _bytes(ip_bytes)),
        ]
        m.submodules.l4_tree = l4_tree = SumTree(self._config.data_width)
        m.submodules.ip_tree = ip_tree = SumTree(self._config.data_width)
        m.d.comb += [l4_tree.data.eq(l4), ip_tree.data.eq(ip)]
        summed = delay(m, Cat(valid, first, last), SELECT_STAGES + l4_tree.stages)
        summed_job = delay(m, job, SELECT_STAGES + l4_tree.stages)
        folded_job = delay(m, summed_job, FOLD_STAGES - 1)
        offload = folded_job.offload
        checksums = []
        for name, tree, start in (("l4", l4_tree, offload.checksum_start), ("ip", ip_tree, offload.l2_length)):
            m.submodules[f"{name}_fold"] = fold = OnesComplementFold(tree.sum.shape().width)
            m.d.comb += [
                fold.valid.eq(summed[0]),
                fold.first.eq(summed[1]),
                fold.value.eq(tree.sum),
                fold.swap.eq(start[0]),
            ]
            checksums.append(fold.checksum)
        if self._config.segmentation:
            segment, discard = summed_job.segment, Signal()
            m.d.sync += discard.eq(self.discard)
            m.d.comb += [
                m.submodules.l4_fold.seed.eq(Mux(segment.present, Cat(segment.l4_bytes[8:], segment.l4_bytes[:8]), 0)),
                self.frame.discard.eq(delay(m, discard, SELECT_STAGES + l4_tree.stages + FOLD_STAGES)),
            ]
        m.d.comb += self.strobe.eq(delay(m, summed[0] & summed[2], FOLD_STAGES))
        m.submodules.frame_beats = frame_beats = FrameBeats(self._config)
        m.d.comb += [
            frame_beats.length.eq(summed_job.length),
            frame_beats.tagged.eq(summed_job.offload.insert_vlan),
            self.frame.beats.eq(delay(m, frame_beats.beats, FOLD_STAGES - BEATS_STAGES)),
        ]
        self._describe(m, delay(m, folded_job, 1), *checksums)
        return m

    def _from(self, bound, index):
        """Which bytes of word ``index`` are not before byte ``bound``."""
        beat_bytes = self._config.beat_bytes
        lane = ceil_log2(beat_bytes)
        everything = Const(-1, beat_bytes)
        within = (everything << bound[:lane])[:beat_bytes]
        return Mux(bound[lane:] == index, within, Mux(bound[lane:] < index, everything, 0))

    def _describe(self, m: Module, job, l4, ip) -> None:
        """The frame and its edits."""
        offload, frame = job.offload, self.frame
        m.d.comb += [
            frame.edits.insert_vlan.eq(offload.insert_vlan),
            frame.edits.vlan.eq(offload.vlan),
            frame.serial.eq(job.serial),
        ]
        l4_place = offload.checksum_start + offload.checksum_offset
        ip_place = offload.l2_length + IPV4_CHECKSUM
        for position, (enable, place, value) in enumerate(
            (
                (offload.insert_l4_checksum, l4_place, l4[:8]),
                (offload.insert_l4_checksum, l4_place + 1, l4[8:]),
                (offload.insert_ip_checksum, ip_place, ip[:8]),
                (offload.insert_ip_checksum, ip_place + 1, ip[8:]),
            )
        ):
            patch = frame.edits.patches[position]
            m.d.comb += [patch.enable.eq(enable), patch.offset.eq(place), patch.value.eq(value)]


def _bytes(mask):
    """A mask of bits from one of bytes."""
    return Cat(mask[lane].replicate(8) for lane in range(len(mask)))
