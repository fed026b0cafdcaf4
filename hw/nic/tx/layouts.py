# SPDX-License-Identifier: BSD-2-Clause
"""What the stages of the TX path hand to each other."""

from amaranth.hdl import Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import bits_for, exact_log2

from hw.abi.rings import BUFFER_ID_BITS, INDEX_BITS, CompletionError
from hw.config import NicConfig
from hw.nic.recycle.interfaces import POOL_BITS

MIN_FRAME = 14
PADDED_FRAME = 60
TAG_BYTES = 4
PATCH_OFFSET_BITS = 9


def reserved_words(length, beat_bytes):
    """Words of the packet buffer set aside for a frame: those of the frame as it is sent. So each frame that waits in
    the buffer holds at least ``reserved_words(0, beat_bytes)`` of them."""
    lane_bits = exact_log2(beat_bytes)
    words = (length >> lane_bits) + length[:lane_bits].any()
    return Mux(length < PADDED_FRAME, -(-PADDED_FRAME // beat_bytes), words)


class TxOffload(data.StructLayout):
    """What a frame's last data descriptor and its context ask for: see :class:`hw.abi.rings.TxDescriptor` and
    :class:`hw.abi.rings.TxContext`.

    Members
    -------
    has_context : there was a context
    segment, mss, l4_length : only with ``config.segmentation``
    early_report : likewise: a descriptor before the last asks for a completion
    """

    def __init__(self, config: NicConfig):
        members = {
            "insert_ip_checksum": 1,
            "insert_l4_checksum": 1,
            "insert_vlan": 1,
            "has_context": 1,
            "checksum_start": 8,
            "checksum_offset": 6,
            "l2_length": 8,
            "l3_length": 8,
            "vlan": 16,
        }
        if config.segmentation:
            members |= {"segment": 1, "mss": 16, "l4_length": 8, "early_report": 1}
        super().__init__(members)


class TxSegment(data.Struct):
    """A job that is a segment of a request, if ``present``: ``first`` and ``last`` of its request, its number and the
    payload's bytes before it, and the bytes of its TCP header and payload."""

    present: 1
    first: 1
    last: 1
    index: 16
    offset: 16
    l4_bytes: 16


class BytePatch(data.Struct):
    """If ``enable``, the byte at ``offset`` of the frame in the packet buffer leaves as ``value``."""

    enable: 1
    offset: PATCH_OFFSET_BITS
    value: 8


class TxEdits(data.Struct):
    """What becomes of a frame on its way out of the packet buffer: first the patches, then the tag, with its control
    information ``vlan``."""

    patches: data.ArrayLayout(BytePatch, 4)
    insert_vlan: 1
    vlan: 16


class TxJob(data.StructLayout):
    """A frame taken from a ring, or a piece of one that is not to be sent. Its descriptors follow as :class:`TxPiece`.

    Members
    -------
    length : bytes of all descriptors, at most 65,535
    error : FRAME_LENGTH if the descriptors are only to be completed, not read
    aborted : the queue stopped before the frame's end was seen; one empty piece follows
    end : the frame ends here
    offload : only with ``config.tx_offload``: with ``end``, what else is to be done to the frame
    segment, closing : only with ``config.segmentation``: see :class:`hw.nic.tx.segmenter.TxSegmenter`
    serial : simulation-only number, counted in the order in which jobs are taken
    """

    def __init__(self, config: NicConfig):
        members = {"queue": range(config.queues), "length": 16, "error": CompletionError, "aborted": 1, "end": 1}
        if config.tx_offload:
            members["offload"] = TxOffload(config)
        if config.segmentation:
            members |= {"segment": TxSegment, "closing": 1}
        super().__init__({**members, "serial": config.serial_width})


class TxPiece(data.StructLayout):
    """A descriptor of a job.

    Members
    -------
    address, length, buffer_id : of the buffer
    read : it carries data
    report : a completion was asked for; its slot is reserved
    index : ring index one past the descriptor
    last : the job ends here
    recycle, pool : only with ``config.pools``: the buffer is to be handed back to the pool when it has been read;
        behind :class:`hw.nic.tx.claims.TxClaims`, the NIC owns it
    """

    def __init__(self, config: NicConfig):
        members = {
            "address": 64,
            "length": 16,
            "buffer_id": BUFFER_ID_BITS,
            "index": INDEX_BITS,
            "read": 1,
            "report": 1,
            "last": 1,
        }
        super().__init__({**members, "recycle": 1, "pool": POOL_BITS} if config.pools else members)


class TxFrameJob(data.StructLayout):
    """What of a :class:`TxJob` goes with its frame's words."""

    def __init__(self, config: NicConfig):
        job = TxJob(config)
        super().__init__(
            {name: job[name].shape for name in ("length", "offload", "segment", "serial") if name in job.members}
        )


class GatheredWord(wiring.Signature):
    """A word of a frame as it is written to the packet buffer, one a cycle; ``first`` and ``last`` of its frame. The
    bytes behind the frame's end are zero. A frame that is given up ends without ``last``."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "data": Out(config.data_width), "first": Out(1), "last": Out(1)})


class TxBeats(data.StructLayout):
    """The beats that a frame is sent in.

    Members
    -------
    last : number of the last, from 0
    count : valid bytes of the last
    pads : beats at the end that lie behind the frame's words
    extra : only with ``config.tx_offload``: for the tag there is one more of them than words were set aside
    """

    def __init__(self, config: NicConfig):
        beat_bytes = config.beat_bytes
        pads = max((PADDED_FRAME - 1) // beat_bytes, 1)
        last = range(-(-(config.max_frame + TAG_BYTES) // beat_bytes))
        members = {"last": last, "count": range(beat_bytes + 1), "pads": bits_for(pads)}
        super().__init__({**members, "extra": 1} if config.tx_offload else members)


class TxFrame(data.StructLayout):
    """A whole frame in the packet buffer. Frames lie there one behind the other, each from a word's start; the bytes
    behind a frame's end in its last word are zero.

    Members
    -------
    beats : that it is sent in, tag and padding included
    edits : only with ``config.tx_offload``: see :class:`TxEdits`
    discard : only with ``config.segmentation``: it is not to be sent
    serial : of its job
    """

    def __init__(self, config: NicConfig):
        edits = {"edits": TxEdits} if config.tx_offload else {}
        discard = {"discard": 1} if config.segmentation else {}
        super().__init__({"beats": TxBeats(config), **edits, **discard, "serial": config.serial_width})


class SendBeat(data.StructLayout):
    """A beat on its way from the packet buffer to the wire.

    Members
    -------
    count, first, last, serial : as in :class:`hw.bus.packet.PacketBeat`
    pad : it lies behind the frame's words and is all zeros
    tags, vlan : only with ``config.tx_offload``: a tag is inserted, with this control information
    second : likewise: the beat behind the first
    patches : likewise: byte ``lane`` becomes ``value``
    keeps : likewise: no word was set aside for it
    discard : only with ``config.segmentation``: it is not to be sent
    """

    def __init__(self, config: NicConfig):
        members = {"count": range(config.beat_bytes + 1), "first": 1, "last": 1, "pad": 1}
        if config.tx_offload:
            patch = data.StructLayout({"enable": 1, "lane": range(config.beat_bytes), "value": 8})
            patches = TxEdits.as_shape()["patches"].shape.length
            members |= {"tags": 1, "vlan": 16, "second": 1, "patches": data.ArrayLayout(patch, patches), "keeps": 1}
        if config.segmentation:
            members["discard"] = 1
        super().__init__({**members, "serial": config.serial_width})
