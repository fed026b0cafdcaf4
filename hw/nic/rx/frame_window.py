# SPDX-License-Identifier: BSD-2-Clause
"""Frames between their steering and the decision about them."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import TransportLayer
from hw.config import NicConfig
from hw.nic.rx.layouts import PacketInfo, SteeredFrame
from hw.nic.rx.pipeline import delay

_FRAMES = 16  #: more than the cycles from the input to the decision
_SPARE = 2  #: frames that may come before ``input.ready`` falls


class FrameKey(data.StructLayout):
    """What a lookup must know of a frame.

    Members
    -------
    length : bytes
    queue : its number
    select : the same one-hot; no bit where no such queue exists
    place : of the frame in the window
    behind, headers : only where header split is built in: bytes behind the headers, and the smallest header buffer that
        these fit, 1 for 64 bytes to 3 for 256, or 0 if the frame is not one to be split
    """

    def __init__(self, config: NicConfig):
        members = {"length": 16, "queue": range(config.queues), "select": config.queues, "place": range(_FRAMES)}
        if config.header_split:
            members |= {"behind": 16, "headers": 2}
        super().__init__(members)


class FrameAside(data.StructLayout):
    """What only goes along with a frame: see :class:`hw.nic.rx.layouts.SteeredFrame`."""

    def __init__(self, config: NicConfig):
        super().__init__({"length": 16, "info": PacketInfo(config), "serial": config.serial_width})


class FrameWindow(wiring.Component):
    """Hold frames until they are decided; give them ahead of that, in order, and again if asked to.

    A frame is at ``head`` two cycles after it came, three where header split is built in, one a cycle. While
    ``restart`` is high there is none; two cycles later the oldest frame that is not decided is there again.

    Members
    -------
    input : stream of :class:`hw.nic.rx.layouts.SteeredFrame`; ``ready`` comes from a register
    head_valid, head : the next frame, a :class:`FrameKey`
    advance : the one after it is next
    restart : go back to the oldest frame
    decided : the oldest frame leaves; with ``restart``, or the cycle before its end, at the latest
    place, aside : the :class:`FrameAside` of the frame there, in the next cycle
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "input": In(stream.Signature(SteeredFrame(config))),
                "head_valid": Out(1),
                "head": Out(FrameKey(config)),
                "advance": In(1),
                "restart": In(1),
                "decided": In(1),
                "place": In(range(_FRAMES)),
                "aside": Out(FrameAside(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        split = ("behind", "headers") if config.header_split else ()
        key = data.StructLayout(
            {
                "length": 16,
                "queue": range(config.queues),
                "routed": 1,
                **{name: FrameKey(config)[name].shape for name in split},
            }
        )
        m.submodules.keys = keys = memory.Memory(shape=key, depth=_FRAMES, init=[])
        m.submodules.asides = asides = memory.Memory(shape=FrameAside(config), depth=_FRAMES, init=[])
        writes = keys.write_port(), asides.write_port()
        next_, aside = keys.read_port(domain="comb"), asides.read_port(domain="comb")
        # One bit more than a place.
        written, ahead, oldest = (Signal(range(2 * _FRAMES), name=n) for n in ("written", "ahead", "oldest"))
        held, accepted, more = Signal(range(_FRAMES + 1)), Signal(), Signal()
        frame = self.input.payload
        kept = {name: frame[name] for layout in (key, FrameAside(config)) for name, _ in layout if name not in split}
        if split:
            kept |= _split(frame)
        # What is found out of a frame's headers takes a cycle.
        came = delay(m, "came", len(split[:1]), accepted, **kept)
        m.d.comb += [
            accepted.eq(self.input.valid & self.input.ready),
            more.eq(ahead != written),
            *(write.en.eq(came.valid) for write in writes),
            *(write.addr.eq(written) for write in writes),
            *(write.data[name].eq(getattr(came, name)) for write in writes for name, _ in write.data.shape()),
            next_.addr.eq(ahead),
            aside.addr.eq(self.place),
        ]
        m.d.sync += [
            written.eq(written + came.valid),
            oldest.eq(oldest + self.decided),
            held.eq(held + accepted - self.decided),
            self.input.ready.eq(held < _FRAMES - _SPARE),
            self.aside.eq(aside.data),
        ]
        with m.If(self.restart):
            m.d.sync += [self.head_valid.eq(0), ahead.eq(oldest)]
        with m.Elif(~self.head_valid | self.advance):
            m.d.sync += [
                self.head_valid.eq(more),
                *(self.head[name].eq(next_.data[name]) for name, _ in key if name != "routed"),
                self.head.select.eq(Mux(next_.data.routed, 1 << next_.data.queue, 0)),
                self.head.place.eq(ahead),
                ahead.eq(ahead + more),
            ]
        return m


def _split(frame: data.View) -> dict[str, Value]:
    """``behind`` and ``headers`` of a :class:`FrameKey`."""
    length, transport = frame.info.header_length, frame.info.packet_type.transport
    known = (transport == TransportLayer.TCP) | (transport == TransportLayer.UDP)
    size = Mux(length <= 64, 1, Mux(length <= 128, 2, 3))
    return {
        "behind": (frame.length - length)[:16],
        "headers": Mux(known & (length < frame.length), size, 0),
    }
