# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's channels keep the rules of streams and of AXI, whatever others do that keep them."""

from typing import Any

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from hw.abi.iommu import PAGE_SHIFT
from hw.config import IommuConfig
from hw.iommu.write_channel import WriteChannel

ID_WIDTH = 1
#: As small as channels can be.
SMALL = IommuConfig(physical_bits=32, walks=2, writes=2, write_beats=2, reads=1, outstanding=2)


def streams(interface: Any) -> list[tuple[str, Any, bool]]:
    """Every stream in an interface, its name, and whether the component is its source."""
    found = []
    for path, member, _ in interface.signature.flatten(interface):
        if path[-1] == "valid":
            stream = interface
            for step in path[:-1]:
                stream = stream[step] if isinstance(step, int) else getattr(stream, step)
            found.append(("_".join(map(str, path[:-1])), stream, member.flow == Out))
    return found


def holds(m: Module, name: str, stream: Any) -> Value:
    """A stream that was offered and not taken is offered still, with the same payload."""
    payload = Value.cast(stream.payload)
    stalled, before = Signal(name=f"{name}_stalled"), Signal(len(payload), name=f"{name}_before")
    m.d.sync += [stalled.eq(stream.valid & ~stream.ready), before.eq(payload)]
    return ~stalled | (stream.valid & (payload == before))


def bind(m: Module, proof: wiring.Component, inner: Any, *, proven: tuple[str, ...], submodule: Any = None) -> None:
    """Put a component into its proof: streams into it hold, those of these names out of it are proven to.
    ``submodule`` is the component, if it is elaborated already."""
    m.submodules.inner = submodule or inner
    # ``connect`` does not know how to flip arrays.
    for (_, member, port), (_, _, own) in zip(proof.signature.flatten(proof), inner.signature.flatten(inner)):
        sink, source = (port, own) if member.flow == Out else (own, port)
        m.d.comb += Value.cast(sink).eq(Value.cast(source))
    for name, stream, ours in streams(proof):
        if not ours:
            m.d.comb += Assume(holds(m, name, stream))
        elif name in proven:
            m.d.comb += Assert(holds(m, name, stream))


class ChannelProof(wiring.Component):
    """A channel from reset on, with a translator that may answer anything and memory that answers what it was asked.

    Proven of any burst: all streams out of the channel hold; what goes to memory came from the device, and is it in all
    but the page; for each ID the device gets no more responses than it asked for, and as many beats; and a fence waits
    for all of them.

    Parameters
    ----------
    channel : :class:`hw.iommu.write_channel.WriteChannel` or :class:`hw.iommu.read_channel.ReadChannel`
    """

    def __init__(self, channel: Any):
        self._channel = channel
        self._writes = isinstance(channel, WriteChannel)
        super().__init__(channel.signature)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bind(m, self, self._channel, proven=("memory_aw", "memory_w", "memory_ar", "device_b", "device_r", "fault"))
        requests, responses = ("aw", "b") if self._writes else ("ar", "r")
        asked, sent = getattr(self.device, requests), getattr(self.memory, requests)
        answered, answers = getattr(self.device, responses), getattr(self.memory, responses)

        # One burst, whichever it is, all but its page.
        watched = Signal(sent.payload.shape())
        m.d.comb += Value.cast(watched).eq(AnyConst(len(Value.cast(watched))))
        came = Signal()
        with m.If(asked.valid & asked.ready & _same_but_page(asked.payload, watched)):
            m.d.sync += came.eq(1)
        m.d.comb += Assert(~(sent.valid & _same_but_page(sent.payload, watched)) | came)

        # A fence changes the color once nothing of the other is left.
        color = Signal()
        m.d.sync += color.eq(self.fence.color)
        m.d.comb += Assume((self.fence.color == color) | ~self.fence.busy.bit_select(self.fence.color, 1))

        idle: Value = Const(1)
        all_at_memory: Value = Const(0)
        for index in range(1 << ID_WIDTH):
            owed = self._owed(m, f"owed_{index}", asked, answered, index)
            at_memory = self._owed(m, f"at_memory_{index}", sent, answers, index)
            m.d.comb += [
                Assume(~(answers.valid & (answers.payload.id == index)) | (at_memory.bursts != 0)),
                Assume((at_memory.bursts == 0) == (at_memory.beats == 0)),
                Assert(~(answered.valid & (answered.payload.id == index)) | (owed.bursts != 0)),
                Assert((owed.bursts == 0) == (owed.beats == 0)),
                Assert(at_memory.bursts <= owed.bursts),
            ]
            idle &= owed.bursts == 0
            all_at_memory += at_memory.bursts
        m.d.comb += Assert(idle == (self.fence.busy == 0))
        if self._writes:
            # Memory answers a burst after its data, which may come before its address.
            beat, ended = self.memory.w, Signal(6)
            m.d.sync += ended.eq(
                ended + (beat.valid & beat.ready & beat.payload.last) - (answers.valid & answers.ready)
            )
            m.d.comb += [Assume(~answers.valid | (ended != 0)), Assert(ended <= all_at_memory + sent.valid)]
        return m

    def _owed(self, m: Module, name: str, up: Any, down: Any, index: int) -> Any:
        """Bursts of an ID that have no last response, and the beats of response still to come."""
        owed = Signal(data.StructLayout({"bursts": 6, "beats": 12}), name=name)
        begins = up.valid & up.ready & (up.payload.id == index)
        answer = down.valid & down.ready & (down.payload.id == index)
        beats, last = (1, 1) if self._writes else (up.payload.len + 1, down.payload.last)
        m.d.sync += [
            owed.bursts.eq(owed.bursts + begins - (answer & last)),
            owed.beats.eq(owed.beats + Mux(begins, beats, 0) - answer),
        ]
        return owed


def _same_but_page(burst: Any, other: Any) -> Value:
    names = ("id", "len", "size", "lock", "user")
    same = burst.addr[:PAGE_SHIFT] == other.addr[:PAGE_SHIFT]
    for name in names:
        same &= Value.cast(getattr(burst, name)) == Value.cast(getattr(other, name))
    return same
