# SPDX-License-Identifier: BSD-2-Clause
"""Which completions are written, when, and where to."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.abi.rings import ENTRIES_PER_LINE, ENTRY_BYTES, INDEX_BITS
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.interfaces import QueueWrite, WritePort
from hw.nic.queue_register import QueueRegister
from hw.nic.rings.completion_staging import STAGED_BITS, StagedLine
from hw.nic.rings.line_timer import LineTimer

_LINE_BITS = exact_log2(ENTRIES_PER_LINE)
_ENTRY_BITS = exact_log2(ENTRY_BYTES)
_LINES = 8  #: writes commanded whose entries have not all been handed to DMA


class SentLine(data.StructLayout):
    """A write under way: ``count`` completions of ``queue``."""

    def __init__(self, config: NicConfig):
        super().__init__({"queue": range(config.queues), "count": range(ENTRIES_PER_LINE + 1)})


class LineSender(wiring.Component):
    """Command the writes of staged completions: of each queue in order, never beyond the end of a line.

    A queue's entries are due when they reach the end of a line, ``timeout`` cycles after the oldest of them came, or
    while the queue is not enabled. Queues take turns.

    **Timing.** A command is offered six cycles after the ``accepts`` that completed its line, or ``timeout`` + 7 after
    that of its oldest entry, one more if that came while those before it were sent. Commands follow each other every
    second cycle, those of one queue every third.

    Parameters
    ----------
    config : NicConfig
    base, size : names of the ring's registers in ``register_map(...).queue``

    Members
    -------
    queue_write : see :class:`hw.nic.interfaces.QueueWrite`
    timeout : cycles
    enable, clear : one bit per queue, as in :class:`hw.nic.interfaces.QueueControl`
    broken : one bit per queue: of these no line is picked any more
    accepts, accepted : see :class:`hw.nic.rings.completion_staging.CompletionStaging`
    sent : each queue's free-running index one past the last entry that is commanded, or about to be
    unsent : one bit per queue: entries wait
    picks : one-hot: whose line is picked, and begins as soon as the one before it is out of the way
    sends, sends_queue : a write begins; ``sent`` counts it from the next cycle
    command : as in :class:`hw.nic.interfaces.WritePort`
    lines : stream of :class:`hw.nic.rings.completion_staging.StagedLine`, one for each command
    writes : stream of :class:`SentLine`, one for each command; its taker bounds the writes under way
    """

    def __init__(self, config: NicConfig, *, base: str, size: str):
        self._config = config
        self._base, self._size = base, size
        queues = config.queues
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "timeout": In(16),
                "enable": In(queues),
                "clear": In(queues),
                "broken": In(queues),
                "accepts": In(queues),
                "accepted": In(data.ArrayLayout(STAGED_BITS + 1, queues)),
                "sent": Out(data.ArrayLayout(INDEX_BITS, queues)),
                "unsent": Out(queues),
                "picks": Out(queues),
                "sends": Out(1),
                "sends_queue": Out(range(queues)),
                "command": Out(WritePort(config).members["command"].signature),
                "lines": Out(stream.Signature(StagedLine(config))),
                "writes": Out(stream.Signature(SentLine(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.base = base = QueueRegister(config, self._base, width=64)
        m.submodules.size = size = QueueRegister(config, self._size, width=INDEX_BITS)
        for register in (base, size):
            wiring.connect(m, register.write, wiring.flipped(self.queue_write))
        moves = Signal()  # what is on its way to the command goes on
        picked, queue = Signal(), Signal(range(config.queues))
        m.d.comb += [
            self.picks.eq(Mux(picked, 1 << queue, 0)),
            self.sends.eq(picked & moves),
            self.sends_queue.eq(queue),
            base.reads[0].queue.eq(queue),
            size.reads[0].queue.eq(queue),
        ]
        whole, end = self._pick(m, picked, queue, moves)

        # With the queue: what of it is sent.
        first = self.sent[queue]
        is_whole = whole.bit_select(queue, 1)
        begun = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "queue": range(config.queues),
                    "base": 64,
                    "size": INDEX_BITS,
                    "first": INDEX_BITS,
                    "end": range(ENTRIES_PER_LINE + 1),
                }
            )
        )
        with m.If(self.sends):
            line = first[_LINE_BITS:] + is_whole
            m.d.sync += first.eq(Cat(Mux(is_whole, 0, end[queue]), line[: INDEX_BITS - _LINE_BITS]))
        for q in range(config.queues):
            with m.If(self.clear[q]):
                m.d.sync += self.sent[q].eq(0)
        with m.If(moves):
            m.d.sync += [
                begun.valid.eq(picked),
                begun.queue.eq(queue),
                begun.base.eq(base.reads[0].value),
                begun.size.eq(size.reads[0].value),
                begun.first.eq(first),
                begun.end.eq(Mux(is_whole, ENTRIES_PER_LINE, end[queue])),
            ]

        # Then: its place in the ring.
        placed = Signal(data.StructLayout({"valid": 1, "base": 64, "slot": INDEX_BITS, "line": StagedLine(config)}))
        with m.If(moves):
            m.d.sync += [
                placed.valid.eq(begun.valid),
                placed.base.eq(begun.base),
                placed.slot.eq(begun.first & (begun.size - 1)),
                placed.line.queue.eq(begun.queue),
                placed.line.first.eq(begun.first),
                placed.line.count.eq(begun.end - begun.first[:_LINE_BITS]),
                placed.line.phase.eq(~(begun.first & begun.size).any()),
            ]
        self._command(m, placed, moves)
        return m

    def _pick(self, m: Module, picked: Signal, queue: Signal, moves: Signal) -> tuple[Signal, Signal]:
        """Pick a queue, whenever the one before is on its way; tell of each whether a line of it is whole, and else how
        far it reaches."""
        queues = self._config.queues
        m.submodules.timer = timer = LineTimer(queues)
        m.submodules.arbiter = arbiter = RoundRobin(queues)
        waiting, whole = Signal(queues), Signal(queues)
        end = Signal(data.ArrayLayout(_LINE_BITS, queues))
        settles = Signal()  # the last queue's flags do not know yet that it was sent
        halted = Signal(queues)
        m.d.sync += [settles.eq(self.sends), halted.eq(~self.enable)]
        m.d.comb += [
            timer.timeout.eq(self.timeout),
            arbiter.requests.eq(
                (whole | (waiting & (timer.due | halted))) & ~self.broken & ~Mux(settles, 1 << queue, 0)
            ),
            arbiter.taken.eq(~picked & moves),
        ]
        with m.If(moves):
            m.d.sync += picked.eq(arbiter.valid & ~picked)
            with m.If(~picked):
                m.d.sync += queue.eq(arbiter.grant)
        for q in range(queues):
            accepted, sent = self.accepted[q], self.sent[q][: STAGED_BITS + 1]
            empty = accepted == sent
            m.d.comb += self.unsent[q].eq(~empty)
            m.d.sync += [
                waiting[q].eq(~empty),
                whole[q].eq(accepted[_LINE_BITS:] != sent[_LINE_BITS:]),
                end[q].eq(accepted[:_LINE_BITS]),
                # An entry that comes while all before it are sent becomes the oldest, as does the first of a line.
                timer.start[q].eq(
                    (self.accepts[q] & (empty | (accepted[:_LINE_BITS] == 0))) | (self.sends & (queue == q) & ~whole[q])
                ),
            ]
            with m.If(self.clear[q]):
                m.d.sync += [waiting[q].eq(0), whole[q].eq(0)]
        return whole, end

    def _command(self, m: Module, placed, moves: Signal) -> None:
        """Tell DMA of it, the entries that go with it, and those who wait for the response."""
        config = self._config
        line, command = placed.line, self.command
        m.submodules.lines = lines = SyncFIFO(width=line.shape().size, depth=_LINES)
        written = SentLine(config)
        m.submodules.writes = writes = SyncFIFO(width=written.size, depth=config.outstanding_writes)
        for fifo, output in ((lines, self.lines), (writes, self.writes)):
            m.d.comb += [
                output.valid.eq(fifo.r_rdy),
                output.payload.eq(fifo.r_data),
                fifo.r_en.eq(output.valid & output.ready),
            ]
        room, goes = Signal(), Signal()
        m.d.sync += room.eq(lines.w_rdy & writes.w_rdy)  # in time, as a command comes every second cycle
        m.d.comb += [
            goes.eq(placed.valid & room & (~command.valid | command.ready)),
            moves.eq(~placed.valid | goes),
            lines.w_en.eq(goes),
            lines.w_data.eq(line),
            writes.w_en.eq(goes),
            written(writes.w_data).queue.eq(line.queue),
            written(writes.w_data).count.eq(line.count),
        ]
        # Bases are aligned to lines.
        offset, ring_line = placed.slot[:_LINE_BITS], placed.base[_LINE_BITS + _ENTRY_BITS :]
        with m.If(goes):
            m.d.sync += [
                command.valid.eq(1),
                command.payload.queue.eq(line.queue),
                command.payload.address.eq(
                    Cat(Const(0, _ENTRY_BITS), offset, ring_line + placed.slot[_LINE_BITS:])[:64]
                ),
                command.payload.length.eq(line.count << _ENTRY_BITS),
            ]
        with m.Elif(command.ready):
            m.d.sync += command.valid.eq(0)
