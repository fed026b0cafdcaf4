# SPDX-License-Identifier: BSD-2-Clause
"""The leak report: who has a buffer, for how long, and which have been out for too long."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.pools import BufferState, PoolCommand, RecycleError
from hw.config import NicConfig
from hw.nic.queue_memory import QueueMemory
from hw.nic.recycle.interfaces import BufferName, PoolWrite, RequestPort

TICK_CYCLES = 1024
AGE_BITS = 15
MAX_AGE = (1 << AGE_BITS) - 1
OWNER_BITS = 8
TAKEN = 255  #: owner of a buffer that software took


class HandOver(wiring.Signature):
    """A buffer is out from now on: ``strobe`` for one cycle with the ``buffer`` and its ``owner``, the queue whose
    completion told of it, or TAKEN."""

    def __init__(self, config: NicConfig):
        super().__init__({"strobe": Out(1), "buffer": Out(BufferName(config)), "owner": Out(OWNER_BITS)})


class OwnerPort(wiring.Signature):
    """Questions about buffers that are out, seen from who asks: one at a time, the next only after the ``answer``,
    which comes for each in one cycle of ``strobe``.

    ``request``: the ``buffer``; with ``search`` the first buffer of its pool from that id on that is overdue. Otherwise
    it is known to be out.

    ``answer``: ``found``, 0 if no buffer is overdue; then the ``id``, its ``owner`` as in :class:`HandOver`, and its
    ``age`` in units of 1024 cycles, 32767 being that or more.
    """

    def __init__(self, config: NicConfig):
        answer = {
            "strobe": Out(1),
            "found": Out(1),
            "id": Out(range(config.pool_buffers)),
            "owner": Out(OWNER_BITS),
            "age": Out(AGE_BITS),
        }
        request = data.StructLayout({"buffer": BufferName(config), "search": 1})
        super().__init__({"request": Out(stream.Signature(request)), "answer": In(wiring.Signature(answer))})


class HandOverRecord(data.Struct):
    """Kept of each buffer: to whom it went last, when, and whether that is ``old``: longer ago than ages reach."""

    owner: OWNER_BITS
    time: AGE_BITS + 1
    old: 1


class Overdue(wiring.Component):
    """Knows since when each buffer is out, and looks for those that have been for longer than OVERDUE_BOUND.

    Each hand-over is recorded, one a cycle in every cycle, with the time in ticks of 1024 cycles. An age is right to
    within one tick, and never too long.

    A walk over the ids of all live pools, round and round, asks of each buffer whose record is older than the bound
    whether it is out, and counts those that are. A step of it takes seven cycles, and as long as the request where one
    is needed. It also marks records that are older than ages reach, so that none looks young again when the time wraps:
    for that it must pass each id within 32,768 ticks, in which 16 pools of 65,536 ids have 32 cycles for each. To mark,
    it waits for a cycle without a hand-over.

    Questions are answered alternately with the steps of the walk. One about a buffer takes at most two steps, and six
    cycles more for each hand-over of that very buffer meanwhile, so that it knows of those up to four cycles before the
    answer. A search takes two steps for each id that it passes.

    Parameters
    ----------
    config : NicConfig
    tick_cycles : cycles of a tick, a power of two; software counts on 1024

    Ports
    -----
    write : In
        Accepted register writes.
    live, clear : In
        Bit per pool, from :class:`hw.nic.recycle.lifecycle.PoolLifecycle`.
    handed_over : In
        A buffer is out. It is recorded in the second cycle after; requests tell no sooner that it is out.
    requests : Out
        QUERY.
    questions : In
        From the commands.
    overdue : Out
        Of each pool: buffers that were overdue when the last walk over all its ids passed them; 0 from ``clear`` until
        one has been finished, and after one that found the pool not live.
    """

    def __init__(self, config: NicConfig, tick_cycles: int = TICK_CYCLES):
        if not isinstance(tick_cycles, int) or isinstance(tick_cycles, bool):
            raise TypeError(f"Overdue tick_cycles must be an integer, not {tick_cycles!r}")
        if tick_cycles < 1 or tick_cycles & (tick_cycles - 1):
            raise ValueError(f"Overdue tick_cycles must be a power of two, not {tick_cycles!r}")
        self._config = config
        self._tick_cycles = tick_cycles
        counts = data.ArrayLayout(range(config.pool_buffers + 1), config.pools)
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                "live": In(config.pools),
                "clear": In(config.pools),
                "handed_over": In(HandOver(config)),
                "requests": Out(RequestPort(config)),
                "questions": In(OwnerPort(config)),
                "overdue": Out(counts),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.bounds = bounds = QueueMemory(AGE_BITS, config.pools)
        m.submodules.records = records = Memory(
            shape=HandOverRecord, depth=config.pools * config.pool_buffers, init=[], attrs={"no_rw_check": 1}
        )
        read, write = records.read_port(), records.write_port()
        clock = Signal(exact_log2(self._tick_cycles) + AGE_BITS + 1)
        now = clock[exact_log2(self._tick_cycles) :]
        handed_over = Signal(HandOver(config).members["buffer"].shape)
        came, owner = Signal(), Signal(OWNER_BITS)
        m.d.comb += [
            bounds.write_enable.eq(self.write.at.overdue_bound),
            bounds.write_queue.eq(self.write.pool),
            bounds.write_value.eq(self.write.data),
        ]
        m.d.sync += [
            clock.eq(clock + 1),
            came.eq(self.handed_over.strobe),
            handed_over.eq(self.handed_over.buffer),
            owner.eq(self.handed_over.owner),
        ]

        # The buffer in hand, and what is known of it. A record that was written since its read began is not looked at.
        at, record, touched = Signal.like(handed_over), Signal(HandOverRecord), Signal()
        difference, bound, bounded = Signal(AGE_BITS + 1), Signal(AGE_BITS), Signal()
        age, over, aged, found = Signal(AGE_BITS), Signal(), Signal(), Signal()
        beyond, marks = Signal(), Signal()
        m.d.comb += [
            read.addr.eq(Cat(at.id, at.pool)),
            bounds.read_queue.eq(at.pool),
            beyond.eq(record.old | difference[-1]),
            write.en.eq(came | marks),
            write.addr.eq(Mux(came, Cat(handed_over.id, handed_over.pool), read.addr)),
            write.data.owner.eq(Mux(came, owner, record.owner)),
            write.data.time.eq(Mux(came, now, record.time)),
            write.data.old.eq(~came),
        ]
        with m.If(came & (handed_over == at)):
            m.d.sync += touched.eq(1)

        # The walk has one place, the question another; they take turns.
        walk, overdue = Signal.like(at), Signal(range(config.pool_buffers + 1))
        question, asked = Signal.like(self.questions.request.payload), Signal()
        asking, whole = Signal(), Signal()
        next_pool = Signal.like(walk.pool)
        request, answer = self.requests, self.questions.answer
        m.d.comb += [
            self.questions.request.ready.eq(~asked),
            request.request.payload.operation.eq(PoolCommand.QUERY),
            request.request.payload.pool.eq(at.pool),
            request.request.payload.id.eq(at.id),
            answer.found.eq(found),
            answer.id.eq(at.id),
            answer.owner.eq(record.owner),
            answer.age.eq(age),
            whole.eq(at.id.all()),
            next_pool.eq(Mux(walk.pool == config.pools - 1, 0, walk.pool + 1)),
        ]
        m.d.sync += answer.strobe.eq(0)
        with m.If(~asked):
            m.d.sync += [question.eq(self.questions.request.payload), asked.eq(self.questions.request.valid)]

        with m.FSM():
            with m.State("CHOOSE"):
                m.d.sync += [asking.eq(asked & ~asking), touched.eq(0)]
                with m.If(asked & ~asking):
                    m.d.sync += at.eq(question.buffer)
                    m.next = "READ"
                with m.Elif(self.live.bit_select(walk.pool, 1)):
                    m.d.sync += at.eq(walk)
                    m.next = "READ"
                with m.Else():
                    m.d.sync += [self.overdue[walk.pool].eq(0), walk.pool.eq(next_pool), walk.id.eq(0), overdue.eq(0)]
            with m.State("READ"):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += record.eq(read.data)
                m.next = "AGE"
            with m.State("AGE"):
                m.d.sync += [
                    difference.eq(now - record.time),
                    bound.eq(bounds.value),
                    bounded.eq(bounds.value.any()),
                ]
                m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += [
                    age.eq(Mux(beyond, MAX_AGE, difference)),
                    over.eq(bounded & (beyond | (difference > bound))),
                    aged.eq(difference[-1] & ~record.old),
                    found.eq(asking & ~question.search),
                ]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += marks.eq(aged & ~touched & ~came)
                with m.If(found & touched):
                    m.d.sync += touched.eq(0)
                    m.next = "READ"
                with m.Elif(~aged | touched | ~came):
                    with m.If(over & ~found):
                        m.next = "ASK"
                    with m.Else():
                        m.next = "CONCLUDE"
            with m.State("ASK"):
                m.d.comb += request.request.valid.eq(1)
                with m.If(request.request.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                out = (request.answer.error == RecycleError.NONE) & (request.answer.state == BufferState.OUT)
                m.d.sync += found.eq(out & ~touched)
                with m.If(request.answer.strobe):
                    m.next = "CONCLUDE"
            with m.State("CONCLUDE"):
                with m.If(asking):
                    done = found | whole
                    m.d.sync += [question.buffer.id.eq(at.id + 1), answer.strobe.eq(done), asked.eq(~done)]
                with m.Else():
                    m.d.sync += [walk.id.eq(at.id + 1), overdue.eq(overdue + found)]
                    with m.If(whole):
                        m.d.sync += [
                            self.overdue[walk.pool].eq(overdue + found),
                            overdue.eq(0),
                            walk.pool.eq(next_pool),
                        ]
                m.next = "CHOOSE"

        for pool in range(config.pools):
            with m.If(self.clear[pool]):
                m.d.sync += self.overdue[pool].eq(0)
        with m.If(self.clear.bit_select(walk.pool, 1)):
            m.d.sync += overdue.eq(0)
        return m
