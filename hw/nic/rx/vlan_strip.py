# SPDX-License-Identifier: BSD-2-Clause
"""Frames without the VLAN tag that they had on the wire."""

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.rx.headers import CUSTOMER_TAG, ETHERNET_BYTES, TAG_BYTES, swap

_PLACE = 12  #: the byte of a frame where its first tag begins
_WHOLE = ETHERNET_BYTES + TAG_BYTES  #: bytes of a frame of which a tag can be taken, and an Ethernet header be left


class StripBeat(data.StructLayout):
    """A beat of a frame.

    Members
    -------
    data, count, first, last : as in :class:`hw.bus.packet.PacketBeat`
    about : what else is known; it counts with ``last``
    """

    def __init__(self, config: NicConfig, about: ShapeLike):
        count = range(config.beat_bytes + 1)
        super().__init__({"data": config.data_width, "count": count, "first": 1, "last": 1, "about": about})


class VlanStrip(wiring.Component):
    """Take the outer tag out of a frame, if that is a C-tag (TPID 0x8100, IEEE 802.1Q), whatever its priority and
    number. All other frames stay as they are: one whose outer tag is an S-tag (0x88A8), and one of less than 18 bytes,
    which would not keep an Ethernet header. An inner tag becomes the outer one.

    ::

        input ─► held ─┬► output
           └───────────┘

    A beat may come every cycle, with any pauses in between, and nothing stalls. Behind the tag a beat ends with the
    first four bytes of the next one, so each waits for that: it comes out one cycle after the next beat came, a last
    one two cycles after itself. Where the next beat has no bytes but these it vanishes, and what it ended ends with the
    one before it, which so has its ``about``. A frame of full beats comes out in full beats.

    Beats before a ``first`` that have no ``last`` belong to no frame; they come out, and what is in them is not stated.

    Parameters
    ----------
    config : the NIC's
    about : shape of what goes along with each beat

    Members
    -------
    enable : of each frame as of its beat with the tag
    input : stream of :class:`StripBeat`
    output : stream of :class:`StripBeat`, from registers
    stripped, tag : with the last beat of a frame: its tag was taken out, and had this tag control information
    """

    def __init__(self, config: NicConfig, about: ShapeLike):
        self._size = config.beat_bytes
        self._beat = StripBeat(config, about)
        super().__init__(
            {
                "enable": In(1),
                "input": In(stream.Signature(self._beat, always_ready=True)),
                "output": Out(stream.Signature(self._beat, always_ready=True)),
                "stripped": Out(1),
                "tag": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = self._size
        number, lane = divmod(_PLACE, size)
        ahead = (number + 1) * size  # bytes of the frame up to the end of the beat with the tag
        beat, comes = self.input.payload, self.input.valid
        held, holds = Signal(self._beat, reset_less=True), Signal()
        output = self.output.payload

        # Whether the tag is in the beat that comes, and whole, as far as that beat tells.
        second = Signal()  # the beat before was a frame's first
        here = beat.first if number == 0 else second & ~beat.first
        found, tagged = Signal(), Signal()
        m.d.comb += found.eq(self.enable & here & (swap(beat.data[8 * lane :][:16]) == CUSTOMER_TAG))
        if ahead >= _WHOLE:
            tagged_next = found & (beat.count >= _WHOLE)
        else:
            tagged_next = found
        with m.If(comes):
            m.d.sync += [held.eq(beat), tagged.eq(tagged_next), second.eq(beat.first)]

        leaves, follows, taken, moves, merges = (
            Signal(name=n) for n in ("leaves", "follows", "taken", "moves", "merges")
        )
        behind = self.stripped & ~held.first  # of this frame the tag is out already
        m.d.comb += [
            leaves.eq(holds & (comes | held.last)),
            follows.eq(comes & ~beat.first & ~held.last),
            taken.eq(tagged if ahead >= _WHOLE else tagged & follows & (beat.count >= _WHOLE - ahead)),
            moves.eq(taken | behind),
            merges.eq(holds & moves & follows & beat.last & (beat.count <= TAG_BYTES)),
        ]
        m.d.sync += [holds.eq((comes & ~merges) | (holds & ~leaves)), self.output.valid.eq(leaves)]
        moved = Cat(held.data[8 * TAG_BYTES :], beat.data[: 8 * TAG_BYTES])
        with m.If(leaves):
            m.d.sync += [
                self.stripped.eq(moves),
                output.data[: 8 * lane].eq(Mux(behind, moved[: 8 * lane], held.data[: 8 * lane])),
                output.data[8 * lane :].eq(Mux(moves, moved[8 * lane :], held.data[8 * lane :])),
                output.count.eq(
                    Mux(merges, beat.count + (size - TAG_BYTES), held.count - Mux(moves & held.last, TAG_BYTES, 0))
                ),
                output.first.eq(held.first),
                output.last.eq(held.last | merges),
                output.about.eq(Mux(merges, beat.about, held.about)),
            ]
        with m.If(leaves & taken):
            m.d.sync += self.tag.eq(swap(held.data[8 * (lane + 2) :][:16]))
        return m
