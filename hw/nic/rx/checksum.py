# SPDX-License-Identifier: BSD-2-Clause
"""Sum each frame, and judge the checksums within."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import ChecksumStatus
from hw.config import NicConfig
from hw.nic.rx.headers import ETHERNET_BYTES, ChecksumPlan, MeasuredBeat
from hw.nic.rx.pipeline import delay, register_stage

FAN_IN = 4
# No frame that is kept has more than 2**15 words of 16 bits.
SUM_BITS = 31
ZERO = 0xFFFF  # of ones' complement; the other, 0, is the sum of nothing but zeros


class ChecksumVerdict(data.Struct):
    """Members
    -------
    checksum : ones' complement sum of all bytes behind the Ethernet header (CHECKSUM_COMPLETE of
        ``include/linux/skbuff.h``): its low byte belongs to the first byte on the wire and every second after it
    status : whether the checksums within are right
    """

    checksum: 16
    status: ChecksumStatus


class RxChecksum(wiring.Component):
    """Ones' complement sums (RFC 1071) of a frame, of its IP packet, and of its IPv4 header.

    All three begin behind the 14 bytes of Ethernet's header, and an odd last byte counts as if a zero followed. Nothing
    stalls; a beat may come every cycle, and each may be a whole frame. ``output`` is valid for one cycle for each kept
    frame, :attr:`latency` cycles after its last beat.

    Status: BAD if the plan says so, or a sum that it wants to be 0 is not; otherwise GOOD if the packet's sum was
    wanted, else NOT_CHECKED.

    Members
    -------
    beats : stream of :class:`hw.nic.rx.headers.MeasuredBeat`
    plan : of each kept frame, :data:`PLANNED` cycles after its last beat (:class:`hw.nic.rx.headers.ChecksumPlan`)
    output : stream of :class:`ChecksumVerdict`
    """

    PLANNED = 2

    def __init__(self, config: NicConfig):
        self._config = config
        self._levels = 0
        while FAN_IN**self._levels < config.beat_bytes // 2:
            self._levels += 1
        super().__init__(
            {
                "beats": In(stream.Signature(MeasuredBeat(config), always_ready=True)),
                "plan": In(stream.Signature(ChecksumPlan, always_ready=True)),
                "output": Out(stream.Signature(ChecksumVerdict, always_ready=True)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a frame's last beat to its verdict: for the mask, each level of the adders' tree, accumulation,
        what the plan adds, and two to fold 32 bits into 16."""
        return self._levels + 5

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = self.beats.payload
        ends = {"frame": beat.count, "packet": beat.packet_count, "header": beat.header_count}
        masked = {name: self._mask(count) for name, count in ends.items()}
        last = register_stage(m, "masked", self.beats.valid, first=beat.first, keep=beat.keep, **masked)
        terms = {name: _words(getattr(last, name)) for name in ends}
        for level in range(self._levels):
            sums = {name: Cat(_sums(words)) for name, words in terms.items()}
            bits = 16 + 2 * (level + 1)
            last = register_stage(m, f"level_{level}", last.valid, first=last.first, keep=last.keep, **sums)
            terms = {name: _words(getattr(last, name), bits) for name in ends}

        totals = {name: Signal(SUM_BITS, name=f"{name}_total") for name in ends}
        ended = Signal()
        m.d.sync += ended.eq(last.valid & last.keep)
        with m.If(last.valid):
            m.d.sync += [totals[name].eq(Mux(last.first, 0, totals[name]) + terms[name][0]) for name in ends]

        plan = delay(m, "plan", self._levels, self.plan.valid, plan=self.plan.payload).plan
        packet, header = totals["packet"] + plan.payload_rest, totals["header"] + plan.header_rest
        added = register_stage(m, "added", ended, plan=plan, frame=totals["frame"], packet=packet, header=header)
        # The sum of two halves of 16 bits carries at most once more.
        good = {f"{name}_good": _fold(getattr(added, name)) == ZERO for name in ("packet", "header")}
        folded = register_stage(m, "folded", added.valid, plan=added.plan, frame=_fold(added.frame), **good)
        plan = folded.plan
        status = Signal(ChecksumStatus)
        bad_sum = (plan.check_header & ~folded.header_good) | (plan.check_payload & ~folded.packet_good)
        with m.If(plan.bad | bad_sum):
            m.d.comb += status.eq(ChecksumStatus.BAD)
        with m.Elif(plan.check_payload):
            m.d.comb += status.eq(ChecksumStatus.GOOD)
        judged = register_stage(m, "judged", folded.valid, checksum=_fold(folded.frame)[:16], status=status)
        m.d.comb += [
            self.output.valid.eq(judged.valid),
            self.output.payload.checksum.eq(judged.checksum),
            self.output.payload.status.eq(judged.status),
        ]
        return m

    def _mask(self, count: Value) -> Value:
        """The beat's bytes behind the Ethernet header, up to ``count`` in this beat; zeros for all others."""
        beat, size = self.beats.payload, self._config.beat_bytes
        masks = []
        for lane in range(size):
            ethernet = [number for number in range(-(-ETHERNET_BYTES // size)) if number * size + lane < ETHERNET_BYTES]
            counts = count > lane
            if ethernet:
                counts &= beat.index > ethernet[-1]
            masks.append(counts.replicate(8))
        return beat.data & Cat(masks)


def _words(value: Value, bits: int = 16) -> list[Value]:
    return [value[low : low + bits] for low in range(0, len(value), bits)]


def _sums(words: Sequence[Value]) -> list[Any]:
    """Sums of four words each, two bits wider."""
    groups = [[*words[low : low + FAN_IN], *[C(0, len(words[0]))] * 3][:FAN_IN] for low in range(0, len(words), FAN_IN)]
    return [((a + b) + (c + d)) for a, b, c, d in groups]


def _fold(value: Value) -> Any:
    """Add the high bits to the low 16, whose sum modulo 2**16 - 1 it keeps."""
    return value[:16] + value[16:]
