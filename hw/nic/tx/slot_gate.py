# SPDX-License-Identifier: BSD-2-Clause
"""Which frames' completions have slots."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.rings import INDEX_BITS
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.interfaces import CompletionSlots
from hw.nic.queue_memory import QueueMemory
from hw.nic.tx.framer import FramedFrame


class AdmittedFrames(wiring.Signature):
    """``count`` more frames of ``queue`` may be taken: ``strobe`` for one cycle."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {"strobe": Out(1), "queue": Out(range(config.queues)), "count": Out(range(config.fetch_depth + 1))}
        )


class SlotGate(wiring.Component):
    """Set slots aside for the completions that frames ask for; frames that have theirs are admitted, in order.

    Queues with frames that wait are visited in turn, one a cycle, each at most every seventh cycle. A visit admits all
    of its queue's frames if there are slots for all, else the first if there are slots for it. So a queue whose
    completion ring is as long as its descriptor ring never waits, and one without slots holds up no other. A frame that
    asks for more completions than its ring has entries waits until its queue is stopped; slots set aside for frames
    that are not taken until then are forgotten with all others when it is started again.

    Frames are admitted eight cycles after they were told of where nothing else waits. Nothing is admitted of a queue
    that is not enabled.

    Members
    -------
    enable, clear : as in :class:`hw.nic.interfaces.QueueControl`
    framed : frames
    slots : free slots of the completion rings
    admitted : frames that may be taken
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "enable": In(config.queues),
                "clear": In(config.queues),
                "framed": In(FramedFrame(config)),
                "slots": Out(CompletionSlots(config)),
                "admitted": Out(AdmittedFrames(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        queue = range(config.queues)
        index_bits = exact_log2(config.fetch_depth)
        totals = data.StructLayout({"frames": index_bits + 1, "reports": index_bits + 1})
        m.submodules.told = told = QueueMemory(totals, config.queues)
        m.submodules.done = done = QueueMemory(totals, config.queues)
        # Of all frames up to each. A visit that finds one just written is followed by another.
        m.submodules.reports = reports = Memory(
            shape=index_bits + 1, depth=config.queues * config.fetch_depth, init=[], attrs={"no_rw_check": 1}
        )
        note, look_up = reports.write_port(), reports.read_port()
        m.d.comb += [
            told.clear.eq(self.clear),
            told.write_enable.eq(self.framed.strobe),
            told.write_queue.eq(self.framed.queue),
            told.write_value.frames.eq(self.framed.frames),
            told.write_value.reports.eq(self.framed.reports),
            note.en.eq(self.framed.strobe),
            note.addr.eq(Cat(self.framed.place, self.framed.queue)),
            note.data.eq(self.framed.reports),
        ]

        waiting, visited = Signal(config.queues), Signal(config.queues)
        m.submodules.arbiter = arbiter = RoundRobin(config.queues)
        m.d.comb += [
            arbiter.requests.eq(waiting & ~visited & self.enable),
            arbiter.taken.eq(1),
        ]

        # A visit: totals looked up and subtracted, the first frame's reports looked up and subtracted, both compared.
        visit = data.StructLayout(
            {
                "valid": 1,
                "live": 1,
                "queue": queue,
                "frames": index_bits + 1,  # that wait
                "reports": index_bits + 1,  # of those
                "before": totals,
            }
        )
        stages = [Signal(visit, name=name) for name in ("start", "looked", "asked", "read", "known", "compared")]
        start, looked, asked, read, known, compared = stages
        m.d.sync += [
            start.valid.eq(arbiter.valid),
            start.live.eq(1),
            start.queue.eq(arbiter.grant),
        ]
        for earlier, later in pairwise(stages):
            m.d.sync += [
                later.eq(earlier),
                later.live.eq(earlier.live & self.enable.bit_select(earlier.queue, 1)),
            ]
        m.d.comb += [
            told.read_queue.eq(start.queue),
            done.read_queue.eq(start.queue),
            look_up.addr.eq(Cat(looked.before.frames[:index_bits], looked.queue)),
        ]
        upto, first = Signal(index_bits + 1), Signal(index_bits + 1)
        free = Signal(data.ArrayLayout(INDEX_BITS, 2))
        fits_first, fits_all = Signal(), Signal()
        m.d.sync += [
            looked.frames.eq(told.value.frames - done.value.frames),
            looked.reports.eq(told.value.reports - done.value.reports),
            looked.before.eq(done.value),
            upto.eq(look_up.data),
            free[0].eq(self.slots.free[asked.queue]),
            free[1].eq(free[0]),
            first.eq(upto - read.before.reports),
            fits_first.eq(first <= free[1]),
            fits_all.eq(known.reports <= free[1]),
        ]

        admits, frames, slots = Signal(), Signal(index_bits + 1), Signal(index_bits + 1)
        first_compared = Signal.like(first)
        live = Signal()
        m.d.sync += first_compared.eq(first)
        m.d.comb += [
            live.eq(compared.valid & compared.live & self.enable.bit_select(compared.queue, 1)),
            admits.eq(live & (fits_all | fits_first)),
            frames.eq(Mux(fits_all, compared.frames, 1)),
            slots.eq(Mux(fits_all, compared.reports, first_compared)),
            done.clear.eq(self.clear),
            done.write_enable.eq(admits),
            done.write_queue.eq(compared.queue),
            done.write_value.frames.eq(compared.before.frames + frames),
            done.write_value.reports.eq(compared.before.reports + slots),
        ]
        m.d.sync += [
            self.admitted.strobe.eq(admits),
            self.admitted.queue.eq(compared.queue),
            self.admitted.count.eq(frames),
            self.slots.reserve.eq(admits),
            self.slots.reserve_queue.eq(compared.queue),
            self.slots.reserve_count.eq(slots),
        ]
        with m.If(arbiter.valid):
            m.d.sync += [
                waiting.bit_select(arbiter.grant, 1).eq(0),
                visited.bit_select(arbiter.grant, 1).eq(1),
            ]
        with m.If(compared.valid):
            m.d.sync += visited.bit_select(compared.queue, 1).eq(0)
        with m.If(live & ~fits_all):
            m.d.sync += waiting.bit_select(compared.queue, 1).eq(1)
        with m.If(self.framed.strobe):
            m.d.sync += waiting.bit_select(self.framed.queue, 1).eq(1)
        for q in queue:
            with m.If(self.clear[q]):
                m.d.sync += waiting[q].eq(0)
        return m
