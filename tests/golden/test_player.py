# SPDX-License-Identifier: BSD-2-Clause
"""The player's results are those of the memory it plays to: here the echo itself, with nothing between."""

from dataclasses import dataclass

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from hw.bus.join import join
from sim.backends.base import launch
from sim.host.storage import Storage
from tests.golden.hardware import Hardware, Row, Step
from tests.golden.player import RESULT_BYTES, ROW_BYTES, ROWS, Echo, Operation, Player


class Loop(wiring.Component):
    """Player and echo."""

    def __init__(self):
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.player = player = Player()
        m.submodules.echo = echo = Echo()
        join(m, player.device, echo.axi)
        for name, port, size in (
            ("script", player.script, ROW_BYTES),
            ("results", player.results, RESULT_BYTES),
            ("written", player.written, RESULT_BYTES),
            ("seen", echo.seen, RESULT_BYTES),
            ("tables", None, RESULT_BYTES),
        ):
            m.submodules[name] = storage = Storage(name, ROWS * size, size * 8)
            if port is not None:
                connect(m, port, storage.port)
        return m


@dataclass(frozen=True)
class LoopDesign:
    """A loop."""

    access_log: bool = False

    def build(self):
        return Loop()


def job(backend, design, argument):
    """Two scripts, one after the other."""
    hardware = Hardware(backend)
    found = []
    for base in (0x1000, 1 << 55):
        script = [
            Step(Operation.WRITE if number % 3 == 0 else Operation.READ, base + 8 * number, alone=number % 5 == 0)
            for number in range(40)
        ]
        hardware.play(script)
        found.append([[hardware.row(name, place) for name in ("results", "written", "seen")] for place in range(40)])
    return found


def test_every_access_has_its_own_outcome():
    nothing = list(Row(0, 0, False))
    for base, rows in zip(
        (0x1000, 1 << 55), launch("amaranth", LoopDesign(), "tests.golden.test_player:job"), strict=True
    ):
        for number, row in enumerate(rows):
            address = list(Row(base + 8 * number, 0, True))
            if number % 3 == 0:
                assert row == [nothing, list(Row(0, 0, True)), address]
            else:
                assert row == [address, nothing, nothing]
