# SPDX-License-Identifier: BSD-2-Clause
"""Small designs for trying the backends, and the jobs that run on them."""

from dataclasses import dataclass
from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring

from sim.backends.base import Backend
from sim.host.storage import Storage

SIZE = 4096


class Copier(wiring.Component):
    """Reads ``memory`` word by word, over and over, and writes each word, plus one, to ``copy`` two edges later."""

    def __init__(self, width: int):
        self.width = width
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = self.width // 8
        m.submodules.memory = memory = Storage("memory", SIZE, self.width)
        m.submodules.copy = copy = Storage("copy", SIZE, self.width)
        address = Signal(range(SIZE))
        delayed = Signal.like(address)
        running = Signal()
        m.d.comb += [
            memory.port.read_enable.eq(1),
            memory.port.read_address.eq(address),
            copy.port.write_enable.eq(running),
            copy.port.write_address.eq(delayed),
            copy.port.write_data.eq(memory.port.read_data + 1),
            copy.port.write_strobe.eq(-1),
        ]
        m.d.sync += [address.eq(address + word), delayed.eq(address), running.eq(1)]
        return m


class Stray(wiring.Component):
    """Writes one byte beyond the end of its storage at the tenth edge."""

    def __init__(self) -> None:
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Storage("memory", 64, 64)
        count = Signal(8)
        m.d.sync += count.eq(count + 1)
        m.d.comb += [
            memory.port.write_enable.eq(count == 9),
            memory.port.write_address.eq(64),
            memory.port.write_strobe.eq(1),
        ]
        return m


class Counter(wiring.Component):
    """Every fourth cycle adds one to the word at byte 8 of ``memory``, if it still holds what was read two cycles
    before, and writes to ``done`` one cycle later whether it did."""

    def __init__(self) -> None:
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Storage("memory", 64, 128, exchange=True)
        m.submodules.done = done = Storage("done", 64, 8)
        phase, turn = Signal(2), Signal(6)
        m.d.sync += phase.eq(phase + 1)
        value = memory.port.read_data[64:]
        m.d.comb += [
            memory.port.read_enable.eq(phase == 0),
            memory.port.write_enable.eq(phase == 2),
            memory.port.write_exchange.eq(1),
            memory.port.write_expected.eq(value),
            memory.port.write_data.eq((value + 1) << 64),
            memory.port.write_strobe.eq(0xFF00),
            done.port.write_enable.eq(phase == 3),
            done.port.write_address.eq(turn),
            done.port.write_data.eq(1 + memory.port.write_exchanged),
            done.port.write_strobe.eq(1),
        ]
        m.d.sync += turn.eq(turn + (phase == 3))
        return m


@dataclass(frozen=True)
class CounterDesign:
    """A counter."""

    access_log: bool = False

    def build(self) -> wiring.Component:
        return Counter()


@dataclass(frozen=True)
class CopierDesign:
    """A copier."""

    width: int = 64
    access_log: bool = False

    def build(self) -> wiring.Component:
        return Copier(self.width)


@dataclass(frozen=True)
class StrayDesign:
    """A stray writer."""

    access_log: bool = False

    def build(self) -> wiring.Component:
        return Stray()


def echo(backend: Backend, design: Any, argument: Any) -> Any:
    """The argument."""
    return argument


def fail(backend: Backend, design: Any, argument: Any) -> None:
    """An error after some cycles."""
    backend.advance(7)
    raise RuntimeError(f"gave up in cycle {backend.cycle}")


def run_until(backend: Backend, design: Any, argument: int) -> int:
    """Advance once."""
    return backend.advance(argument)


def speed(backend: Backend, design: Any, argument: int) -> list[float]:
    """Seconds for that many cycles at once, and for that many wakes in a hundred times fewer."""
    import time

    begin = time.perf_counter()
    backend.advance(argument)
    middle = time.perf_counter()
    for cycle in range(argument + 1, argument + 1 + argument // 100):
        backend.advance(cycle)
    return [middle - begin, time.perf_counter() - middle]
