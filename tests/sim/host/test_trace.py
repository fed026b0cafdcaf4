# SPDX-License-Identifier: BSD-2-Clause
"""The recorder of trace points: every event with its edge, a full ring counted, in both backends."""

from dataclasses import dataclass
from typing import Any

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring

from hw.config import NicConfig
from sim.backends.base import BACKENDS, Backend, launch
from sim.host.trace import POINTS, HardwareEvent, TraceClient, TraceRecorder

HERE = "tests.sim.host.test_trace"
PERIODS = (3, 5, 7, 7, 11, 13, 17, 19)  #: of each point, in cycles; two of them always fire together
NIC = NicConfig(serial_width=24, queues=16)


class Pulses(wiring.Component):
    """Each trace point fires at the edges that are multiples of its period, with that edge in all its fields."""

    def __init__(self, slots: int):
        self.slots = slots
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.recorder = recorder = TraceRecorder(NIC, self.slots)
        cycle = Signal(64)
        m.d.sync += cycle.eq(cycle + 1)
        m.d.comb += recorder.cycle.eq(cycle)
        for name, period in zip(POINTS, PERIODS, strict=True):
            point = recorder.arrived if name == "arrived" else getattr(recorder.points, name)
            phase = Signal(range(period))
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == period - 1):
                m.d.sync += phase.eq(0)
            m.d.sync += [
                point.strobe.eq(phase == period - 1),
                point.serial.eq(cycle + 1),
                point.queue.eq(cycle + 1),
                point.detail.eq(cycle + 1),
            ]
        return m


@dataclass(frozen=True)
class PulsesDesign:
    """See :class:`Pulses`."""

    slots: int = 64
    access_log: bool = False

    def build(self) -> wiring.Component:
        return Pulses(self.slots)


def expected(start: int, stop: int) -> list[HardwareEvent]:
    return [
        HardwareEvent(cycle, point, cycle, cycle % 16, cycle)
        for cycle in range(start, stop)
        for point, period in zip(POINTS, PERIODS, strict=True)
        if cycle and cycle % period == 0
    ]


def drain(backend: Backend, design: PulsesDesign, cycles: int) -> list[Any]:
    """Everything recorded, taken whenever the client's watches are hit."""
    client = TraceClient(backend)
    events: list[HardwareEvent] = []
    while backend.cycle < cycles:
        backend.advance(cycles)
        if set(backend.hits()) & set(client.tokens):
            events += client.recorded()
    return [events + client.recorded(), client.lost]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_event_has_its_edge(backend: str) -> None:
    events, lost = launch(backend, PulsesDesign(), f"{HERE}:drain", 1000)
    assert [HardwareEvent(*event) for event in events] == expected(0, 1000)
    assert lost == 0


def oversleep(backend: Backend, design: PulsesDesign, cycles: int) -> list[Any]:
    """What is left of a ring that was not emptied, and what follows; the second half after a reset."""
    halves = []
    for _ in range(2):
        client = TraceClient(backend)
        while backend.cycle < cycles:
            backend.advance(cycles)
        first = client.recorded()
        lost = client.lost
        while backend.cycle < cycles + 20:
            backend.advance(cycles + 20)
        halves.append([first, lost, client.recorded(), client.lost])
        backend.reset()
    return halves


@pytest.mark.parametrize("cycles", [200, 500])
def test_what_was_overwritten_is_counted(cycles: int) -> None:
    slots = 64
    for first, lost, later, lost_later in launch("amaranth", PulsesDesign(slots), f"{HERE}:oversleep", cycles):
        edges = sorted({event.cycle for event in expected(0, cycles)})
        assert lost == lost_later == len(edges) - slots > 0
        assert [HardwareEvent(*event) for event in first] == expected(edges[-slots], cycles)
        assert [HardwareEvent(*event) for event in later] == expected(cycles, cycles + 20)


def test_serials_must_be_there_and_fit() -> None:
    with pytest.raises(ValueError, match="serial_width must be in 1..32 to be traced, not 0"):
        TraceRecorder(NicConfig())
    with pytest.raises(ValueError, match="serial_width must be in 1..32 to be traced, not 40"):
        TraceRecorder(NicConfig(serial_width=40))
    with pytest.raises(ValueError, match="slots must be a power of two in 4..65536, not 100"):
        TraceRecorder(NIC, 100)
