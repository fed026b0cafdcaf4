# SPDX-License-Identifier: BSD-2-Clause
"""The mailbox: how software reaches the machine's registers, interrupts, carrier and stalls, through storage alone."""

from enum import IntEnum
from typing import Any, NamedTuple

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import Response
from hw.bus.axi_lite import AXILiteSignature
from sim.backends.base import Backend
from sim.host.stall import PLACES, StallControl, stall_setting
from sim.host.storage import Storage

STORAGE = "mailbox"
SLOT_BYTES = 16
SLOTS = 1024  #: of each ring
COMMANDS = 0  #: byte offset of the command ring
EVENTS = SLOTS * SLOT_BYTES  #: byte offset of the event ring
TAKEN = 2 * EVENTS  #: byte offset of the word that counts the commands taken
SIZE = TAKEN + SLOT_BYTES

LAST_LAP = 255  #: slots are tagged 1..255 by the lap they belong to, 0 is a slot never used
WORD_BYTES = 8
HALF_BYTES = 4
ADDR_WIDTH = 19  #: most bits of a register's byte address
OPERATION_BITS = 2  #: of a command's slot
OUTSTANDING = 32  #: register writes, and register reads, without response


class Operation(IntEnum):
    """What a command asks for."""

    WRITE = 0
    READ = 1
    CARRIER = 2
    STALL = 3


class EventKind(IntEnum):
    """What an event reports."""

    READ = 0
    WRITE_ERROR = 1
    INTERRUPT = 2
    POSTED_ERROR = 3


#: A slot of the command ring; ``index`` counts 64-bit registers or is the number of a place that stalls.
#: A write stores those halves of ``value`` that ``halves`` names.
CommandSlot = data.StructLayout(
    {"value": 64, "index": 16, "operation": OPERATION_BITS, "halves": 2, "unused": 36, "lap": 8}
)

CYCLE_BITS = 37

#: A slot of the event ring; ``index`` counts 64-bit registers or is an interrupt vector, ``cycle`` has the low bits of
#: the edge that wrote the slot.
EventSlot = data.StructLayout({"value": 64, "index": 16, "kind": 2, "error": 1, "cycle": CYCLE_BITS, "lap": 8})


class Mailbox(wiring.Component):
    """Executes commands from a ring in storage ``mailbox``, and writes events to another.

    While it is empty, the command ring is looked at with every edge. What software puts there after edge *n* is read by
    edge *n* + 1; a register access is then offered on ``registers`` and taken by edge *n* + 2 at the earliest, and a
    change of ``carrier`` is seen by the rest of the machine from edge *n* + 3 on. One command a cycle is taken, in
    order; a register write counts as taken when both its address and its data are. Writes are posted: up to
    ``OUTSTANDING`` of them, and as many reads, go on without their responses.

    An event is written by the very edge that takes the interrupt, read response or write error from its stream, and
    wakes software by a watch on the ring. Of several at once, interrupts go first, then read responses, then write
    errors; the others wait. So no event overtakes an interrupt that came before it. A change of ``posted_errors`` is
    the last of all.

    Ports
    -----
    cycle : In 64
        Edges taken since reset.
    registers : Out AXILiteSignature(addr_width)
    interrupt : In stream of 16-bit vectors
    posted_errors : In 32
        Writes of the device that memory refused, as the host counts them.
    carrier : Out 1
    stall : Out StallControl

    Parameters
    ----------
    addr_width : bits of a register's byte address, 3..``ADDR_WIDTH``
    """

    def __init__(self, addr_width: int):
        if not isinstance(addr_width, int) or not 3 <= addr_width <= ADDR_WIDTH:
            raise ValueError(
                f"Mailbox register address width must be an integer in 3..{ADDR_WIDTH}, not {addr_width!r}"
            )
        self.addr_width = addr_width
        super().__init__(
            {
                "cycle": In(64),
                "registers": Out(AXILiteSignature(addr_width)),
                "interrupt": In(stream.Signature(16)),
                "posted_errors": In(32),
                "carrier": Out(1),
                "stall": Out(StallControl),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.storage = storage = Storage(STORAGE, SIZE, 8 * SLOT_BYTES)
        m.submodules.writes = writes = SyncFIFO(width=16, depth=OUTSTANDING)
        m.submodules.reads = reads = SyncFIFO(width=16, depth=OUTSTANDING)
        taken, take = Signal(32), Signal()
        self._execute(m, storage.port, writes, reads, taken, take)
        self._report(m, storage.port, writes, reads, taken, take)
        return m

    def _execute(self, m: Module, port: Any, writes: Any, reads: Any, taken: Signal, take: Signal) -> None:
        registers = self.registers
        command = data.View(CommandSlot, port.read_data)
        slot, lap = Signal(range(SLOTS)), Signal(8, init=1)
        present = command.lap == lap
        address_done, data_done = Signal(), Signal()
        following = Signal.like(slot)
        m.d.comb += [
            following.eq(Mux(take, slot + 1, slot)),
            port.read_enable.eq(~present | take),
            port.read_address.eq(COMMANDS + following * SLOT_BYTES),
            registers.aw.p.addr.eq(command.index * WORD_BYTES),
            registers.ar.p.addr.eq(command.index * WORD_BYTES),
            registers.w.p.data.eq(command.value),
            registers.w.p.strb.eq(Cat(half.replicate(WORD_BYTES // 2) for half in command.halves)),
            self.stall.place.eq(command.index),
            self.stall.setting.eq(command.value),
            writes.w_data.eq(command.index),
            reads.w_data.eq(command.index),
        ]
        with m.If(present):
            with m.Switch(command.operation):
                with m.Case(Operation.WRITE):
                    m.d.comb += [
                        registers.aw.valid.eq(writes.w_rdy & ~address_done),
                        registers.w.valid.eq(writes.w_rdy & ~data_done),
                        take.eq(writes.w_rdy & (address_done | registers.aw.ready) & (data_done | registers.w.ready)),
                        writes.w_en.eq(take),
                    ]
                    m.d.sync += [
                        address_done.eq(~take & (address_done | (registers.aw.valid & registers.aw.ready))),
                        data_done.eq(~take & (data_done | (registers.w.valid & registers.w.ready))),
                    ]
                with m.Case(Operation.READ):
                    m.d.comb += [
                        registers.ar.valid.eq(reads.w_rdy),
                        take.eq(reads.w_rdy & registers.ar.ready),
                        reads.w_en.eq(take),
                    ]
                with m.Case(Operation.CARRIER):
                    m.d.comb += take.eq(1)
                    m.d.sync += self.carrier.eq(command.value[0])
                with m.Case(Operation.STALL):
                    m.d.comb += [take.eq(1), self.stall.strobe.eq(1)]
        with m.If(take):
            m.d.sync += [slot.eq(following), taken.eq(taken + 1)]
            with m.If(slot == SLOTS - 1):
                m.d.sync += lap.eq(Mux(lap == LAST_LAP, 1, lap + 1))

    def _report(self, m: Module, port: Any, writes: Any, reads: Any, taken: Signal, take: Signal) -> None:
        registers, interrupt = self.registers, self.interrupt
        slot, lap = Signal(range(SLOTS)), Signal(8, init=1)
        event = Signal(EventSlot)
        happened, reported = Signal(), Signal(init=1)
        refused, told = Signal(), Signal(32)
        m.d.comb += [
            refused.eq(registers.b.valid & (registers.b.p.resp != Response.OKAY)),
            interrupt.ready.eq(1),
            registers.r.ready.eq(~interrupt.valid),
            registers.b.ready.eq(~refused | ~(interrupt.valid | registers.r.valid)),
            writes.r_en.eq(registers.b.valid & registers.b.ready),
            reads.r_en.eq(registers.r.valid & registers.r.ready),
            event.lap.eq(lap),
            event.cycle.eq(self.cycle + 1),
            happened.eq(interrupt.valid | registers.r.valid | refused | (self.posted_errors != told)),
        ]
        with m.If(interrupt.valid):
            m.d.comb += [event.kind.eq(EventKind.INTERRUPT), event.index.eq(interrupt.payload)]
        with m.Elif(registers.r.valid):
            m.d.comb += [
                event.kind.eq(EventKind.READ),
                event.index.eq(reads.r_data),
                event.value.eq(registers.r.p.data),
                event.error.eq(registers.r.p.resp != Response.OKAY),
            ]
        with m.Elif(refused):
            m.d.comb += [event.kind.eq(EventKind.WRITE_ERROR), event.index.eq(writes.r_data)]
        with m.Else():
            m.d.comb += [event.kind.eq(EventKind.POSTED_ERROR), event.value.eq(self.posted_errors)]
            m.d.sync += told.eq(self.posted_errors)
        m.d.comb += port.write_strobe.eq(-1)
        with m.If(happened):
            m.d.comb += [
                port.write_enable.eq(1),
                port.write_address.eq(EVENTS + slot * SLOT_BYTES),
                port.write_data.eq(event),
            ]
            m.d.sync += slot.eq(slot + 1)
            with m.If(slot == SLOTS - 1):
                m.d.sync += lap.eq(Mux(lap == LAST_LAP, 1, lap + 1))
        with m.Elif(~reported):
            m.d.comb += [port.write_enable.eq(1), port.write_address.eq(TAKEN), port.write_data.eq(taken)]
            m.d.sync += reported.eq(1)
        with m.If(take):
            m.d.sync += reported.eq(0)


class MailboxError(Exception):
    """A ring of the mailbox overflowed."""


class RegisterRead(NamedTuple):
    """The completion of a register read."""

    cycle: int
    offset: int
    value: int
    error: bool


class WriteError(NamedTuple):
    """A register write was refused."""

    cycle: int
    offset: int


class PostedErrors(NamedTuple):
    """Memory refused writes of the device that nobody waited for."""

    cycle: int
    total: int  #: since reset


class Interrupt(NamedTuple):
    """An interrupt message arrived."""

    cycle: int
    vector: int


Event = RegisterRead | WriteError | Interrupt | PostedErrors


class MailboxClient:
    """Software's side of a :class:`Mailbox`; made after each reset.

    Attributes
    ----------
    token : the watch that is hit when events wait
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self._words = backend.storage[STORAGE].data.cast("Q")
        self._issued = 0
        self._received = 0
        self.token = backend.watch(STORAGE, EVENTS, EVENTS + SLOTS * SLOT_BYTES)

    def write_register(self, offset: int, value: int, size: int = WORD_BYTES) -> None:
        """Post a write of 8 or 4 bytes."""
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"Register value must be in 0..2**{8 * size}-1, not {value!r}")
        place = offset % WORD_BYTES if size < WORD_BYTES else 0
        halves = (1 << size // HALF_BYTES) - 1 << place // HALF_BYTES
        self._issue(Operation.WRITE | halves << OPERATION_BITS, _index(offset - place), value << 8 * place)

    def read_register(self, offset: int) -> None:
        """Post a 64-bit read; a :class:`RegisterRead` follows, in order of the reads."""
        self._issue(Operation.READ, _index(offset), 0)

    def set_carrier(self, up: bool) -> None:
        """Tell the device whether its wire has a partner; down after reset."""
        self._issue(Operation.CARRIER, 0, int(up))

    def set_stalls(self, rate: int, seed: int) -> None:
        """Hold back the streams between the machine's parts, where it has been built with stalls.

        In ``rate`` of 256 cycles, 0..255, a stream neither offers nor takes; after ``rate`` of 256 frames the wire
        pauses, in both directions. Each stream has its own times; ``seed`` decides which. Rate 0, as after reset, ends
        the stalls.
        """
        for place in range(PLACES):
            self._issue(Operation.STALL, place, stall_setting(rate, seed, place))

    def _issue(self, operation: int, index: int, value: int) -> None:
        waiting = (self._issued - self._words[TAKEN // 8]) & 0xFFFF_FFFF
        if waiting >= SLOTS:
            raise MailboxError(
                f"The mailbox's command ring of {SLOTS} is full in cycle {self._backend.cycle}: software issues "
                f"register accesses faster than the machine takes them"
            )
        lap, slot = divmod(self._issued, SLOTS)
        place = (COMMANDS + slot * SLOT_BYTES) // 8
        self._words[place] = value
        self._words[place + 1] = index | operation << 16 | _tag(lap) << 56
        self._issued += 1

    def events(self) -> list[Event]:
        """Events since the last call, in order."""
        events: list[Event] = []
        words = self._words
        while True:
            lap, slot = divmod(self._received, SLOTS)
            place = (EVENTS + slot * SLOT_BYTES) // 8
            word = words[place + 1]
            if word >> 56 != _tag(lap):
                if word >> 56 != (_tag(lap - 1) if lap else 0):
                    raise MailboxError(
                        f"The mailbox's event ring of {SLOTS} overflowed before cycle {self._backend.cycle}: software "
                        f"did not take events that its watch reported"
                    )
                return events
            events.append(self._decode(word, words[place]))
            self._received += 1

    def _decode(self, word: int, value: int) -> Event:
        now = self._backend.cycle
        cycle = now - (now - (word >> 19) & (1 << CYCLE_BITS) - 1)
        index, kind = word & 0xFFFF, word >> 16 & 3
        if kind == EventKind.INTERRUPT:
            return Interrupt(cycle, index)
        if kind == EventKind.READ:
            return RegisterRead(cycle, index * WORD_BYTES, value, bool(word >> 18 & 1))
        if kind == EventKind.POSTED_ERROR:
            return PostedErrors(cycle, value)
        return WriteError(cycle, index * WORD_BYTES)


def _index(offset: int) -> int:
    if offset % WORD_BYTES or not 0 <= offset < WORD_BYTES << 16:
        raise ValueError(f"Register offset must be a multiple of 8 in 0..{(WORD_BYTES << 16) - 8}, not {offset!r}")
    return offset // WORD_BYTES


def _tag(lap: int) -> int:
    return lap % LAST_LAP + 1
