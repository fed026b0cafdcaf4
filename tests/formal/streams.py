# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's channels keep the rules of streams and of AXI, whatever others do that keep them."""

from typing import Any

from amaranth import Const, Module, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.abi.iommu import PAGE_SHIFT
from hw.config import IommuConfig
from hw.iommu.write_channel import WriteChannel
from tests.formal.inside import Inside

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
    """A channel with a translator that may answer anything and memory that answers what it was asked.

    Proven, with the invariants of :mod:`tests.formal.channels`, of any burst: all streams out of the channel hold; what
    goes to memory came from the device, and is it in all but the page; for each ID the device gets no more responses
    than it asked for; no write is answered before data of as many writes has come whole; W never ends before its
    address is offered to memory; and a fence waits while any burst has no response.

    That a read has as many beats of response as it asked for is memory's part, and for refused ones that of
    :class:`tests.formal.holds.RefusalProof`. Not proven is that color by color a fence waits for no burst too few: all
    that is said of colors is that both counts together are those of the bursts without response.

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
        inside = Inside(self._channel)
        proven = ("memory_aw", "memory_w", "memory_ar", "device_b", "device_r", "fault")
        bind(m, self, self._channel, proven=proven, submodule=inside.fragment)
        requests, responses = ("aw", "b") if self._writes else ("ar", "r")
        asked, self.sent = getattr(self.device, requests), getattr(self.memory, requests)
        self.answered, answers = getattr(self.device, responses), getattr(self.memory, responses)
        sent, answered = self.sent, self.answered

        # One burst, whichever it is, all but its page.
        self.watched, self.came = Signal(sent.payload.shape()), Signal()
        m.d.comb += Value.cast(self.watched).eq(AnyConst(len(Value.cast(self.watched))))
        with m.If(asked.valid & asked.ready & same_but_page(asked.payload, self.watched)):
            m.d.sync += self.came.eq(1)
        m.d.comb += Assert(~(sent.valid & same_but_page(sent.payload, self.watched)) | self.came)

        idle: Value = Const(1)
        self.owed, self.at_memory = [], []
        for index in range(1 << ID_WIDTH):
            owed = self._owed(m, f"owed_{index}", asked, answered, index)
            at_memory = self._owed(m, f"at_memory_{index}", sent, answers, index)
            m.d.comb += [
                Assume(~(answers.valid & (answers.payload.id == index)) | (at_memory != 0)),
                Assert(~(answered.valid & (answered.payload.id == index)) | (owed != 0)),
            ]
            idle &= owed == 0
            self.owed.append(owed)
            self.at_memory.append(at_memory)
        m.d.comb += Assert(idle == (self.fence.busy == 0))
        if self._writes:
            # Memory answers a burst after its data.
            self.ended = self._data_ended(m, "ended", self.memory)
            self.came_whole = self._data_ended(m, "came_whole", self.device)
            m.d.comb += [
                Assume(~answers.valid | (self.ended != 0)),
                Assert(~answered.valid | (self.came_whole != 0)),
                Assert(self.ended <= sum(self.at_memory) + sent.valid),
            ]
        self.invariants(m, inside)
        return m

    def invariants(self, m: Module, inside: Inside) -> None:
        """Assertions about the inside, without which those about the ports would not be inductive."""
        raise NotImplementedError

    def _data_ended(self, m: Module, name: str, port: Any) -> Signal:
        """Bursts of W that have ended and have no response."""
        ended = Signal(6, name=name)
        last = port.w.valid & port.w.ready & port.w.payload.last
        m.d.sync += ended.eq(ended + last - (port.b.valid & port.b.ready))
        return ended

    def _owed(self, m: Module, name: str, up: Any, down: Any, index: int) -> Signal:
        """Bursts of an ID that have no last response."""
        owed = Signal(6, name=name)
        begins = up.valid & up.ready & (up.payload.id == index)
        answer = down.valid & down.ready & (down.payload.id == index)
        m.d.sync += owed.eq(owed + begins - (answer & (1 if self._writes else down.payload.last)))
        return owed


def same_but_page(burst: Any, other: Any) -> Value:
    """Whether two bursts of :class:`hw.bus.axi4.AddressChannel` differ in nothing but their page."""
    names = ("id", "len", "size", "lock", "user")
    same = burst.addr[:PAGE_SHIFT] == other.addr[:PAGE_SHIFT]
    for name in names:
        same &= Value.cast(getattr(burst, name)) == Value.cast(getattr(other, name))
    return same
