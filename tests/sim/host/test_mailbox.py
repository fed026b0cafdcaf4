# SPDX-License-Identifier: BSD-2-Clause
"""The mailbox, against a small register block, in both backends: results, order and exact cycles."""

from dataclasses import dataclass
from typing import Any

import pytest
from amaranth import Array, Cat, Module, Signal
from amaranth.lib import wiring

from hw.bus.axi4 import Response
from sim.backends.base import BACKENDS, Backend, launch
from sim.host.mailbox import (
    SLOTS,
    Interrupt,
    Mailbox,
    MailboxClient,
    MailboxError,
    PostedErrors,
    RegisterRead,
    WriteError,
)

HERE = "tests.sim.host.test_mailbox"
COUNT = 8


class Registers(wiring.Component):
    """A mailbox on eight registers that answer in the cycle after an access; the ninth refuses.

    A write to register 7 raises an interrupt with that vector, one to register 6 counts so many posted errors. ``slow``
    takes addresses every third cycle and data every second.
    """

    def __init__(self, slow: bool):
        self.slow = slow
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.mailbox = mailbox = Mailbox(8)
        bus = mailbox.registers
        m.d.sync += mailbox.cycle.eq(mailbox.cycle + 1)
        words = Array(Signal(64, name=f"word{n}") for n in range(COUNT))
        have_address, have_data = Signal(), Signal()
        address, value, strobes = Signal(8), Signal(64), Signal(8)
        phase = Signal(range(6))
        m.d.sync += phase.eq(phase + 1)
        with m.If(phase == 5):
            m.d.sync += phase.eq(0)
        m.d.comb += [
            bus.aw.ready.eq(~have_address & (phase % 3 == 0 if self.slow else 1)),
            bus.w.ready.eq(~have_data & (phase % 2 == 0 if self.slow else 1)),
            bus.ar.ready.eq(~bus.r.valid | bus.r.ready),
            bus.b.valid.eq(have_address & have_data),
            bus.b.p.resp.eq((address >= 8 * COUNT).replicate(2) & Response.SLVERR.value),
        ]
        with m.If(bus.aw.valid & bus.aw.ready):
            m.d.sync += [have_address.eq(1), address.eq(bus.aw.p.addr)]
        with m.If(bus.w.valid & bus.w.ready):
            m.d.sync += [have_data.eq(1), value.eq(bus.w.p.data), strobes.eq(bus.w.p.strb)]
        with m.If(bus.b.valid & bus.b.ready):
            m.d.sync += Cat(have_address, have_data).eq(0)
            with m.If(address < 8 * COUNT):
                kept = words[address >> 3]
                mask = Cat(strobe.replicate(8) for strobe in strobes)
                m.d.sync += kept.eq((kept & ~mask) | (value & mask))
            with m.If(address == 48):
                m.d.sync += mailbox.posted_errors.eq(mailbox.posted_errors + value)
            with m.If(address == 56):
                m.d.sync += [mailbox.interrupt.valid.eq(1), mailbox.interrupt.payload.eq(value)]
        with m.If(mailbox.interrupt.valid & mailbox.interrupt.ready):
            m.d.sync += mailbox.interrupt.valid.eq(0)
        with m.If(bus.ar.valid & bus.ar.ready):
            m.d.sync += [
                bus.r.valid.eq(1),
                bus.r.p.data.eq(words[bus.ar.p.addr >> 3] + mailbox.carrier),
                bus.r.p.resp.eq((bus.ar.p.addr >= 8 * COUNT).replicate(2) & Response.SLVERR.value),
            ]
        with m.Elif(bus.r.ready):
            m.d.sync += bus.r.valid.eq(0)
        return m


@dataclass(frozen=True)
class RegistersDesign:
    """See :class:`Registers`."""

    slow: bool = False
    access_log: bool = False

    def build(self) -> wiring.Component:
        return Registers(self.slow)


def collect(backend: Backend, client: MailboxClient, count: int, limit: int = 20000) -> list[Any]:
    """That many events, each with its type's name."""
    events: list[Any] = []
    while len(events) < count:
        assert backend.advance(backend.cycle + limit) == backend.cycle
        assert backend.hits() == [client.token], f"waited {limit} cycles for event {len(events)} of {count}"
        new = client.events()
        assert [event.cycle for event in new] == [backend.cycle]
        events += [[type(event).__name__, *event] for event in new]
    return events


def exact(backend: Backend, design: RegistersDesign, argument: None) -> list[Any]:
    """One of everything, at known cycles."""
    client = MailboxClient(backend)
    backend.advance(10)
    client.read_register(0)  # read at 11, address taken at 12, answered at 13
    events = collect(backend, client, 1)
    backend.advance(20)
    client.write_register(56, 5)  # read at 21, taken at 22, response at 23, interrupt at 24
    client.write_register(64, 1)  # taken at 24, response at 25
    events += collect(backend, client, 2)
    backend.advance(30)
    client.set_carrier(True)  # read at 31, carrier high from edge 32 on, so seen by edge 33
    client.read_register(56)  # address taken at 33
    client.read_register(64)
    events += collect(backend, client, 2)
    backend.advance(40)
    client.write_register(48, 3)  # response at 43, counted from edge 43 on
    client.write_register(64, 1)  # response at 45
    return events + collect(backend, client, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cycles_are_as_promised(backend: str) -> None:
    assert launch(backend, RegistersDesign(), f"{HERE}:exact") == [
        ["RegisterRead", *RegisterRead(13, 0, 0, False)],
        ["Interrupt", *Interrupt(24, 5)],
        ["WriteError", *WriteError(25, 64)],
        ["RegisterRead", *RegisterRead(34, 56, 6, False)],
        ["RegisterRead", *RegisterRead(35, 64, 1, True)],
        ["PostedErrors", *PostedErrors(44, 3)],
        ["WriteError", *WriteError(45, 64)],
    ]


def halves(backend: Backend, design: RegistersDesign, argument: None) -> list[int]:
    """A register after writes of all of it, of its lower half and of its upper half."""
    client = MailboxClient(backend)
    values = []
    for offset, value, size in ((0, 0x1111_1111_1111_1111, 8), (0, 0x2222_2222, 4), (4, 0x3333_3333, 4)):
        client.write_register(offset, value, size)
        backend.advance(backend.cycle + 5)
        client.read_register(0)
        values += [event[3] for event in collect(backend, client, 1)]
    return values


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_write_may_be_of_one_half(backend: str) -> None:
    assert launch(backend, RegistersDesign(), f"{HERE}:halves") == [
        0x1111_1111_1111_1111,
        0x1111_1111_2222_2222,
        0x3333_3333_2222_2222,
    ]


def many(backend: Backend, design: RegistersDesign, laps: int) -> list[Any]:
    """Writes and reads back, through several laps of both rings."""
    client = MailboxClient(backend)
    events = []
    for number in range(laps * SLOTS // 8):
        for register in range(4):
            client.write_register(8 * register, number * 1000 + register)
        for register in range(4):
            client.read_register(8 * register)
        client.write_register(8 * COUNT, 0)
        new = collect(backend, client, 5)
        values = [event[3] for event in new if event[0] == "RegisterRead"]
        assert len(values) == 4
        events.append([event[1] for event in new])
    return events


def test_slow_registers_and_laps_give_the_same_cycles_in_both_backends() -> None:
    events = [launch(backend, RegistersDesign(slow=True), f"{HERE}:many", 1) for backend in BACKENDS]
    assert events[0] == events[1]


def test_tags_wrap() -> None:
    """More laps than there are tags."""
    launch("verilator", RegistersDesign(), f"{HERE}:many", 260)


def overflow(backend: Backend, design: RegistersDesign, argument: None) -> list[str]:
    """Too many commands at once; then too many events not looked at."""
    client = MailboxClient(backend)
    messages = []
    for _ in range(SLOTS):
        client.read_register(0)
    with pytest.raises(MailboxError) as error:
        client.read_register(0)
    messages.append(str(error.value))
    backend.unwatch(client.token)
    backend.advance(4 * SLOTS)
    client.read_register(0)
    backend.advance(5 * SLOTS)
    with pytest.raises(MailboxError) as error:
        client.events()
    return [*messages, str(error.value)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_overflow_is_an_error(backend: str) -> None:
    commands, events = launch(backend, RegistersDesign(), f"{HERE}:overflow")
    assert commands.startswith(f"The mailbox's command ring of {SLOTS} is full in cycle 0: software issues register")
    assert events.startswith(
        f"The mailbox's event ring of {SLOTS} overflowed before cycle {5 * SLOTS}: software did not"
    )


def refused(backend: Backend, design: RegistersDesign, argument: None) -> list[str]:
    """Messages of values that no register takes."""
    client = MailboxClient(backend)
    messages = []
    for call in (
        lambda: client.write_register(4, 0),
        lambda: client.read_register(1 << 19),
        lambda: client.write_register(0, 1 << 64),
    ):
        try:
            call()
        except ValueError as error:
            messages.append(str(error))
    return messages


def test_bad_accesses_are_refused() -> None:
    assert launch("amaranth", RegistersDesign(), f"{HERE}:refused") == [
        "Register offset must be a multiple of 8 in 0..524280, not 4",
        "Register offset must be a multiple of 8 in 0..524280, not 524288",
        "Register value must be in 0..2**64-1, not 18446744073709551616",
    ]
    with pytest.raises(ValueError, match="Mailbox register address width must be an integer in 3..19, not 20"):
        Mailbox(20)
