# SPDX-License-Identifier: BSD-2-Clause
"""Which frame is looked up next, and which is not."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import DropReason
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.queue_register import QueueRegister
from hw.nic.rx.frame_window import FrameKey
from hw.nic.rx.interfaces import HeaderSetting


class Lookup(data.StructLayout):
    """A frame on its way to the decision.

    Members
    -------
    found : with a descriptor; otherwise the frame is dropped
    reason : why it is dropped
    many : one of as many lookups of this frame as it takes
    first : the first of them
    split : its headers go to a header buffer
    length : bytes that go to buffers of the fill ring
    queue, place : of the frame, see :class:`hw.nic.rx.frame_window.FrameKey`; what else of that is here does not count
    """

    def __init__(self, config: NicConfig):
        key = {name: field.shape for name, field in FrameKey(config) if name != "select"}
        super().__init__({"found": 1, "reason": DropReason, "many": 1, "first": 1, "split": 1, **key})


class RxLookups(wiring.Component):
    """Issue a lookup for each frame, as if it needed one descriptor, and got it.

    What the frame's fate depends on besides its descriptor is decided here, by counts that take all lookups before it
    for granted; a frame that is dropped here takes no descriptor. The reasons and their order are those of
    :class:`hw.nic.rx.planner.RxPlanner`. One frame a cycle is issued; it comes out three cycles later.

    If the decision finds that a lookup must not be taken for granted, it makes ``restart`` high for two cycles: what
    was issued is forgotten, and the oldest frame that is not decided is issued again, two cycles later at the earliest.
    If ``many`` is high then, that frame is looked up every second cycle, until the next ``restart``.

    Members
    -------
    enable : queues that take frames
    starvation : cycles that a frame may wait
    head_valid, head, advance : the next frame, see :class:`hw.nic.rx.frame_window.FrameWindow`; ``advance`` may be high
        without one
    buffers, slots : queues that have a descriptor, and a slot, for one more lookup
    pending : queues that were enabled and had no descriptor in the cycle before, but may have one soon
    room : the FIFO of segments has room for one more lookup
    lookup : one-hot, the queue of a lookup
    issued : a frame is issued, with or without a lookup
    waits : one-hot, queue of a frame that must be finished before its queue may stop
    restart, many : see above; ``many`` changes with the begin of ``restart``
    output_valid, output : frames that were issued, a :class:`Lookup`
    queue_write : only where header split is built in: register writes. What RX_HEADER says is looked up with the frame;
        it cannot change before the frame is decided.
    refused, limited : only where ``config.pools`` is not 0: queues whose frames are dropped with POOL_LIMIT, at once,
        and instead of with NO_BUFFER. ``buffers`` and ``pending`` know of the same.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        members = {
            "enable": In(config.queues),
            "starvation": In(16),
            "head_valid": In(1),
            "head": In(FrameKey(config)),
            "advance": Out(1),
            "buffers": In(config.queues),
            "slots": In(config.queues),
            "pending": In(config.queues),
            "room": In(1),
            "lookup": Out(config.queues),
            "issued": Out(1),
            "waits": Out(config.queues),
            "restart": In(1),
            "many": In(1),
            "output_valid": Out(1),
            "output": Out(Lookup(config)),
        }
        if config.header_split:
            members["queue_write"] = In(QueueWrite(config))
        if config.pools:
            members |= {"refused": In(config.queues), "limited": In(config.queues)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        head = self.head
        begun, paused, over = (Signal(name=n) for n in ("begun", "paused", "over"))
        tired = Signal()  # the frame has waited long enough
        usable, may = head.select & self.enable, Signal()
        found, full, stays = (Signal(name=n) for n in ("found", "full", "stays"))
        m.d.comb += [
            may.eq(self.head_valid & self.room & ~self.restart & ~paused),
            found.eq((usable & self.slots & self.buffers).any()),
            full.eq((usable & ~self.slots).any()),
            # That a frame of a queue which just stopped waits a cycle longer does not matter.
            stays.eq((head.select & self.slots & self.pending).any() & ~tired),
            self.lookup.eq(Mux(may, usable & self.slots & self.buffers, 0)),
            self.issued.eq(may & ~stays),
            self.advance.eq(self.room & ~self.many & ~stays),  # nothing is paused without `many`
            self.waits.eq(Mux(begun, head.select, 0)),
        ]
        self._wait(m, may & stays, tired)

        # Lookups of one frame keep one cycle's distance: what the first leaves over is known before the next is judged.
        m.d.sync += paused.eq(self.many & (self.issued | over))
        with m.If(self.restart):
            m.d.sync += [begun.eq(0), paused.eq(0), over.eq(0)]
        with m.Elif(self.many & self.issued):
            m.d.sync += [begun.eq(1), over.eq(~found)]

        stages = [Signal(Lookup(self._config), name=f"stage_{i}") for i in range(3)]
        valid = [self.issued, *(Signal(name=f"stage_{i}_valid") for i in range(3))]
        for before, after in pairwise(valid):
            m.d.sync += after.eq(before & ~self.restart)
        for before, after in pairwise(stages):
            m.d.sync += after.eq(before)
        entering = stages[0]
        m.d.comb += [self.output_valid.eq(valid[-1]), self.output.eq(stages[-1])]
        m.d.sync += [
            entering.found.eq(found),
            entering.reason.eq(Mux(full, DropReason.COMPLETION_FULL, DropReason.NO_BUFFER)),
            entering.many.eq(self.many),
            entering.first.eq(~begun),
            *(entering[name].eq(head[name]) for name, _ in FrameKey(self._config) if name != "select"),
        ]
        if self._config.pools:
            with m.If((usable & (self.refused | (self.limited & self.slots))).any()):
                m.d.sync += entering.reason.eq(DropReason.POOL_LIMIT)
        with m.If(~usable.any()):
            m.d.sync += entering.reason.eq(DropReason.QUEUE_DISABLED)
        if self._config.header_split:
            self._split(m, stages)
        return m

    def _split(self, m: Module, stages: list[Signal]) -> None:
        """Find out on the way which frames are split, and what is then left for buffers."""
        read, known, counted = stages
        m.submodules.area = area = QueueRegister(self._config, "rx_header", width=Shape.cast(HeaderSetting).width)
        setting = data.View(HeaderSetting, area.reads[0].value)
        wiring.connect(m, area.write, wiring.flipped(self.queue_write))
        m.d.comb += area.reads[0].queue.eq(read.queue)
        m.d.sync += [
            known.split.eq(setting.enable & (read.headers != 0) & (read.headers <= setting.size + 1)),
            counted.length.eq(Mux(known.split, known.behind, known.length)),
        ]

    def _wait(self, m: Module, waits: Value, tired: Signal) -> None:
        """Note when the next frame has waited long enough."""
        waiting, waited = Signal(), Signal(16)
        with m.If((self.head_valid & self.advance) | self.restart):
            m.d.sync += [waiting.eq(0), waited.eq(0), tired.eq(0)]
        with m.Else():
            m.d.sync += [waiting.eq(waits), waited.eq(waited + waiting), tired.eq(waited >= self.starvation)]
