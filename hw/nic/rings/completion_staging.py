# SPDX-License-Identifier: BSD-2-Clause
"""Completions on their way from those who made them to DMA."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.abi.rings import ENTRIES_PER_LINE, ENTRY_BYTES
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import CompletionPort, WritePort

STAGED_BITS = 5
_STAGED = 1 << STAGED_BITS  #: entries of each queue that the memory holds
_LATE = 2  #: entries that may come in before a full queue is stopped


class StagedLine(data.StructLayout):
    """Staged entries that one write carries: ``count`` of one line of ``queue``, the first at ``first`` in the queue's
    part of the memory, all with this ``phase``."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "queue": range(config.queues),
                "first": STAGED_BITS,
                "count": range(ENTRIES_PER_LINE + 1),
                "phase": 1,
            }
        )


class CompletionStaging(wiring.Component):
    """Hold each queue's entries until they are written.

    Entries of a queue are staged in order. One goes in a cycle, of any queues, while fewer than 30 of its queue wait
    here; those of a queue in ``drop`` are taken and forgotten. A line leaves as one transfer: one beat a cycle, without
    a bubble from line to line, the first four cycles after the line was taken.

    Parameters
    ----------
    config : NicConfig

    Members
    -------
    entry : stream, as in :class:`hw.nic.interfaces.CompletionPort`
    clear : one bit per queue; nothing of it may be on its way here
    drop : one bit per queue
    accepted : each queue's free-running count of entries staged, modulo twice the memory
    accepts : one bit per queue: an entry is staged, ``accepted`` counts it from the next cycle
    coming : one bit per queue: an entry may have been taken, or is just offered, that ``accepted`` does not count
    lines : stream of :class:`StagedLine`, in the order of a queue's entries
    data : stream of :class:`hw.nic.interfaces.Bytes`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        self._wide = max(1, config.beat_bytes // ENTRY_BYTES)  # entries of a beat
        self._parts = max(1, ENTRY_BYTES // config.beat_bytes)  # beats of an entry
        super().__init__(
            {
                "entry": In(CompletionPort(config).members["entry"].signature),
                "clear": In(config.queues),
                "drop": In(config.queues),
                "accepted": Out(data.ArrayLayout(STAGED_BITS + 1, config.queues)),
                "accepts": Out(config.queues),
                "coming": Out(config.queues),
                "lines": In(stream.Signature(StagedLine(config))),
                "data": Out(WritePort(config).members["data"].signature),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        # Entry i lies in bank i % wide, so that a beat's entries, wherever they begin, lie in different ones.
        depth = (1 << ceil_log2(config.queues) + STAGED_BITS) // self._wide
        # Nothing is made of what is read where an entry is written: synthesis need not see to it.
        banks = [
            Memory(shape=8 * ENTRY_BYTES, depth=depth, init=[], attrs={"no_rw_check": 1}) for _ in range(self._wide)
        ]
        for number, bank in enumerate(banks):
            m.submodules[f"bank_{number}"] = bank
        leaves = Signal(data.StructLayout({"valid": 1, "line": StagedLine(config)}))
        self._accept(m, [bank.write_port() for bank in banks], leaves)
        self._leave(m, [bank.read_port() for bank in banks], leaves)
        return m

    def _accept(self, m: Module, banks, leaves) -> None:
        """Store what comes, and keep count of what is there."""
        m.submodules.skid = skid = SkidBuffer(self.entry.payload.shape())
        wiring.connect(m, wiring.flipped(self.entry), skid.input)
        entry, queue = skid.output, skid.output.payload.queue
        queues = self._config.queues
        takes, room, kept, keeps = Signal(queues), Signal(queues), Signal(queues), Signal()
        place = self.accepted[queue]
        bits = exact_log2(self._wide)
        # What is in the spare register keeps every queue busy until it can move on.
        inside = Mux(skid.input.ready, Mux(entry.valid, 1 << queue, 0), -1)
        m.d.comb += [
            self.coming.eq(inside | Mux(self.entry.valid, 1 << self.entry.payload.queue, 0)),
            entry.ready.eq(takes.bit_select(queue, 1)),
            keeps.eq(entry.valid & entry.ready & ~self.drop.bit_select(queue, 1)),
            self.accepts.eq(Mux(keeps, 1 << queue, 0)),
        ]
        for number, bank in enumerate(banks):
            # Of a queue in `drop`, too: until an entry is kept, what is written to its place is nobody's.
            m.d.comb += [
                bank.en.eq(entry.valid & room.bit_select(queue, 1) & (place[:bits] == number)),
                bank.addr.eq(Cat(place[bits:STAGED_BITS], queue)),
                bank.data.eq(entry.payload.entry),
            ]
        with m.If(keeps):
            m.d.sync += place.eq(place + 1)
        staged = Signal(data.ArrayLayout(STAGED_BITS + 1, queues))
        m.d.sync += kept.eq(self.accepts)
        for q in range(queues):
            left = Mux(leaves.valid & (leaves.line.queue == q), leaves.line.count, 0)
            m.d.sync += [
                staged[q].eq(staged[q] + kept[q] - left),
                room[q].eq(staged[q] < _STAGED - _LATE),
                takes[q].eq(self.drop[q] | (staged[q] < _STAGED - _LATE)),
            ]
            with m.If(self.clear[q]):
                m.d.sync += [staged[q].eq(0), self.accepted[q].eq(0)]

    def _leave(self, m: Module, banks, leaves) -> None:
        """Read each line's beats: their addresses, the memory, a register before any logic, then what is in them."""
        width, beat_bytes = self._config.data_width, self._config.beat_bytes
        wide, parts, bits = self._wide, self._parts, exact_log2(self._wide)
        line, live = Signal(StagedLine(self._config)), Signal()
        index, rest, part = Signal(STAGED_BITS), Signal.like(line.count), Signal(range(parts))
        beat = data.StructLayout(
            {
                "valid": 1,
                "bank": range(wide),  # where its first entry is
                "part": range(parts),
                "phase": 1,
                "count": range(beat_bytes + 1),
                "last": 1,
            }
        )
        asked, fetched, held = Signal(beat), Signal(beat), Signal(beat)
        entries = Signal(data.ArrayLayout(8 * ENTRY_BYTES, wide), reset_less=True)
        m.submodules.beats = beats = SkidBuffer(self.data.payload.shape())
        wiring.connect(m, wiring.flipped(self.data), beats.output)
        moves = Signal()
        m.d.comb += [
            moves.eq(~held.valid | beats.input.ready),
            self.lines.ready.eq(~live | (moves & asked.last)),
            asked.valid.eq(live),
            asked.bank.eq(index[:bits]),
            asked.part.eq(part),
            asked.phase.eq(line.phase),
            asked.count.eq(beat_bytes if parts > 1 else Mux(rest < wide, rest, wide) * ENTRY_BYTES),
            asked.last.eq((rest <= wide) & (part == parts - 1)),
        ]
        for number, bank in enumerate(banks):
            step = (number - index[:bits])[:bits]  # from the beat's first entry to this bank's
            m.d.comb += [
                bank.en.eq(moves),
                bank.addr.eq(Cat((index + step)[bits:STAGED_BITS], line.queue)),
            ]
            with m.If(moves):
                m.d.sync += entries[number].eq(bank.data)
        with m.If(moves):
            m.d.sync += [fetched.eq(asked), held.eq(fetched)]
            with m.If(part == parts - 1):
                m.d.sync += [part.eq(0), index.eq(index + wide), rest.eq(rest - wide)]
            with m.Else():
                m.d.sync += part.eq(part + 1)
        with m.If(self.lines.ready):
            lines = self.lines.payload
            m.d.sync += [live.eq(self.lines.valid), line.eq(lines), index.eq(lines.first), rest.eq(lines.count)]
            m.d.sync += part.eq(0)
        m.d.sync += [leaves.valid.eq(live & moves & asked.last), leaves.line.eq(line)]

        words = Cat(Cat(entries[number][:-1], held.phase) for number in range(wide))
        turned = Cat(words, words) >> (held.bank * 8 * ENTRY_BYTES)
        m.d.comb += [
            beats.input.valid.eq(held.valid),
            beats.input.payload.data.eq(turned.word_select(held.part, width) if parts > 1 else turned),
            beats.input.payload.count.eq(held.count),
            beats.input.payload.last.eq(held.last),
        ]
