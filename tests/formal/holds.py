# SPDX-License-Identifier: BSD-2-Clause
"""What the IOMMU's blocks offer on a stream they offer until it is taken: proofs by induction.

Every stream out of the IOMMU is that of a block here, handed on by :func:`hw.bus.join.join` alone, so its block's proof
is its own:

- ``memory`` AW, AR and W, ``device`` B and R: the channels', in :mod:`tests.formal.channels`;
- ``walker``: that of :class:`AXI4Mux`, twice on the way of the queues, behind the walker's :class:`WalkRequests`, the
  command queue and the fault queue;
- ``registers`` B and R: the register block's;
- ``invalidate``: the command queue's.

So are the streams inside: reports of faults, invalidations and their forks, and the walks to be done.
"""

from collections.abc import Callable
from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Assert, Assume
from amaranth.lib import wiring

from hw.bus.axi4 import MAX_BURST_BEATS, ReadData, Response, WriteResponse
from hw.bus.axi4_mux import AXI4Mux
from hw.iommu.command_queue import CommandQueue
from hw.iommu.debug_translation import DebugTranslation
from hw.iommu.fault_queue import BEATS, FaultQueue
from hw.iommu.fork import Fork
from hw.iommu.interfaces import Access, Invalidation
from hw.iommu.prefetch_answers import PrefetchAnswers
from hw.iommu.refusal import Refusal
from hw.iommu.register_block import RegisterBlock
from hw.iommu.walk_requests import WalkRequests
from hw.iommu.walk_table import WalkTable
from tests.formal.inside import Inside
from tests.formal.streams import ID_WIDTH, SMALL, bind


class HoldProof(wiring.Component):
    """A block, with streams into it that hold and inputs that do anything else: these streams out of it hold.

    Parameters
    ----------
    block : component
    proven : names of streams, with ``_`` between the members that lead to it
    """

    def __init__(self, block: Any, *proven: str):
        self._block = block
        self._proven = proven
        super().__init__(block.signature)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        inside = Inside(self._block)
        bind(m, self, self._block, proven=self._proven, submodule=inside.fragment)
        self.rules(m, inside)
        return m

    def rules(self, m: Module, inside: Inside) -> None:
        """What else is assumed and asserted."""


class RefusalProof(HoldProof):
    """Moreover, what the device gets is memory's responses, each once, and of a refused request as many errors, or
    OKAYs where it is a translation request that is no error, as it has beats, the last of them marked so.

    Assumed, and proven of the channels (:class:`tests.formal.channels.HeldProof`): a request comes only while none is
    held, and ``clear`` stays until the held one is answered.
    """

    def rules(self, m: Module, inside: Inside) -> None:
        memory, device, reads = self.memory, self.device, "last" in self.device.payload.shape().members
        cleared = Signal()
        m.d.sync += cleared.eq(self.clear & self.busy & ~self.finish)
        m.d.comb += [Assume(~(self.take & self.busy)), Assume(~cleared | self.clear)]

        passes, error, left = Signal(), Signal(), Signal(range(MAX_BURST_BEATS + 1))
        m.d.comb += [
            passes.eq(memory.valid & memory.ready),
            error.eq(device.valid & device.ready & ~passes),
        ]
        with m.If(self.take):
            m.d.sync += left.eq(self.accepted.burst.len + 1 if reads else 1)
        with m.Elif(error):
            m.d.sync += left.eq(left - 1)
        same = Value.cast(device.payload) == Value.cast(memory.payload)
        m.d.comb += [
            Assert(~passes | (device.valid & device.ready & same)),
            Assert(self.busy == (left != 0)),
            Assert(~self.busy | (left == inside.register("errors_left"))),
            Assert(~error | (self.busy & self.clear & (device.payload.id == self.id))),
            Assert(~error | (Value.cast(device.payload.resp) == Mux(self.refused, Response.SLVERR, Response.OKAY))),
            Assert(self.finish == (error & (left == 1))),
        ]
        if reads:
            m.d.comb += Assert(~error | (device.payload.last == (left == 1)))


class PrefetchAnswersProof(HoldProof):
    """Moreover, what others send passes, each beat once, and an answer is OKAY. Assumed is that a prefetch comes only
    while there is room."""

    def rules(self, m: Module, inside: Inside) -> None:
        source, device = self.source, self.device
        passes, moves = source.valid & source.ready, device.valid & device.ready
        same = Value.cast(device.payload) == Value.cast(source.payload)
        m.d.comb += [
            Assume(~self.take | self.room),
            Assert(~passes | (moves & same)),
            Assert(~moves | passes | (device.payload.resp == Response.OKAY)),
        ]


class MuxProof(HoldProof):
    """Moreover, memory gets a write as a whole, both its address and its data, before anything of the next one, and
    all of it from one manager. So bursts of W match their AW where those of each manager do."""

    def rules(self, m: Module, inside: Inside) -> None:
        held, address_taken = inside.registers("$signal")
        last = inside.register("aw_before")
        addressed, written, amid = _progress(m, "memory", self.memory)
        m.d.comb += [
            Assert(addressed == address_taken),
            Assert(written == inside.register("written")),
            Assert(~(addressed | written | amid) | held),
            Assert(~(written & (addressed | amid))),
        ]
        for index, manager in enumerate(self.managers):
            own = Cat(_progress(m, f"manager_{index}", manager))
            m.d.comb += Assert(own == Mux(last == index, Cat(addressed, written, amid), 0))


class WriterProof(HoldProof):
    """Moreover, memory gets each address with its data, neither of them twice before it has both; and as many beats as
    the address says, of which the last says so.

    Parameters
    ----------
    beats : of every write
    """

    def __init__(self, block: Any, *proven: str, beats: int):
        self._beats = beats
        super().__init__(block, "axi_aw", "axi_w", *proven)

    def rules(self, m: Module, inside: Inside) -> None:
        aw, w = self.axi.aw, self.axi.w
        addressed, written, _ = _progress(m, "memory", self.axi)
        self._beat = beat = Signal(range(self._beats))
        with m.If(w.valid & w.ready):
            m.d.sync += beat.eq(Mux(beat == self._beats - 1, 0, beat + 1))
        m.d.comb += [
            Assert(addressed == (w.valid & ~aw.valid)),
            Assert(written == (aw.valid & ~w.valid)),
            Assert(~aw.valid | (aw.payload.len == self._beats - 1)),
            Assert(~w.valid | (w.payload.last == (beat == self._beats - 1))),
            Assert(w.valid | (beat == 0)),
        ]


class WalkRequestsProof(WriterProof):
    """The queue of writes keeps the one of which a half was taken."""

    def rules(self, m: Module, inside: Inside) -> None:
        super().rules(m, inside)
        addressed, delivered = inside.register("$signal"), inside.register("delivered")
        m.d.comb += [
            Assert(inside.component("writes").r_rdy | ~(addressed | delivered)),
            Assert(~(addressed & delivered)),
        ]


class FaultQueueProof(WriterProof):
    """The beat that is counted is the one on offer."""

    def rules(self, m: Module, inside: Inside) -> None:
        super().rules(m, inside)
        m.d.comb += Assert(~self.axi.w.valid | (inside.register("beat") == self._beat))


class DebugProof(HoldProof):
    """A report stays as long as it is that of the request that is held, as software cannot write another one."""

    def rules(self, m: Module, inside: Inside) -> None:
        m.d.comb += [
            Assert(self.fault.valid == inside.state("REPORT")),
            Assert(inside.state("IDLE") | self.tr_req_ctl.go_busy),
        ]


class CommandQueueProof(WriterProof):
    """A fence's address and data are those of the command at the queue's head, which stays there until memory, as is
    assumed, answers the whole write."""

    def rules(self, m: Module, inside: Inside) -> None:
        super().rules(m, inside)
        aw, w, b = self.axi.aw, self.axi.w, self.axi.b
        fetched = inside.component("fetch", "ready").r_rdy
        waits = inside.state("INVALIDATED") | inside.state("FENCE") | inside.state("WRITE")
        m.d.comb += [
            Assume(~(b.valid & (aw.valid | w.valid))),
            Assert(~(aw.valid | w.valid) | inside.state("WRITE")),
            Assert(~waits | fetched),
        ]


class RegisterProof(HoldProof):
    """Moreover, an address is taken only after the response to the one before, a write's with its data; and no response
    is offered but to an access."""

    def rules(self, m: Module, inside: Inside) -> None:
        bus = self.bus
        for name, request, response in (("WRITE", bus.aw, bus.b), ("READ", bus.ar, bus.r)):
            owed = Signal(name=f"owed_{name}")
            asked, answered = request.valid & request.ready, response.valid & response.ready
            m.d.sync += owed.eq((owed | asked) & ~answered)
            m.d.comb += [
                Assert(owed == (inside.state(name) | inside.state(f"{name} RESPONSE"))),
                Assert(~(owed & asked)),
                Assert(~response.valid | owed),
            ]
        m.d.comb += Assert((bus.aw.valid & bus.aw.ready) == (bus.w.valid & bus.w.ready))


def _progress(m: Module, name: str, port: Any) -> tuple[Signal, Signal, Signal]:
    """Of a port's write under way, whether its address was taken, not all its data; all its data, not its address;
    a beat of its data, not the last."""
    addressed, written, amid = (Signal(name=f"{name}_{what}") for what in ("addressed", "written", "amid"))
    address, beat = port.aw.valid & port.aw.ready, port.w.valid & port.w.ready
    last = port.w.payload.last
    m.d.sync += [
        addressed.eq((addressed | address) & ~(written | (beat & last))),
        written.eq((written | (beat & last)) & ~(addressed | address)),
    ]
    with m.If(beat):
        m.d.sync += amid.eq(~last)
    return addressed, written, amid


def _mux() -> MuxProof:
    mux = AXI4Mux(64, (0, 1), (2,), (3,), id_width=2)
    responses = (f"managers_{index}_{name}" for index in range(3) for name in ("b", "r"))
    return MuxProof(mux, "memory_aw", "memory_w", "memory_ar", *responses)


#: By name; inductive in two cycles.
HOLD_PROOFS: dict[str, Callable[[], HoldProof]] = {
    "write_responses": lambda: RefusalProof(
        Refusal(WriteResponse(ID_WIDTH), Access.WRITE, id_width=ID_WIDTH), "device", "report"
    ),
    "read_responses": lambda: RefusalProof(
        Refusal(ReadData(64, ID_WIDTH), Access.READ, id_width=ID_WIDTH), "device", "report"
    ),
    "prefetch_answers": lambda: PrefetchAnswersProof(PrefetchAnswers(ReadData(64, ID_WIDTH)), "device"),
    "mux": _mux,
    "walk_requests": lambda: WalkRequestsProof(WalkRequests(SMALL), "axi_ar", beats=1),
    "walk_table": lambda: HoldProof(WalkTable(SMALL), "start"),
    "command_queue": lambda: CommandQueueProof(CommandQueue(SMALL), "axi_ar", "invalidations", "invalidate", beats=1),
    "fault_queue": lambda: FaultQueueProof(FaultQueue(2), "axi_ar", beats=BEATS),
    "debug_translation": lambda: DebugProof(DebugTranslation(SMALL), "fault"),
    "register_block": lambda: RegisterProof(RegisterBlock(SMALL), "bus_b", "bus_r"),
    "fork": lambda: HoldProof(Fork(Invalidation, 2), "branches_0", "branches_1"),
}
