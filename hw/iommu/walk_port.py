# SPDX-License-Identifier: BSD-2-Clause
"""Several AXI4 managers on one port, told apart by their IDs."""

from collections.abc import Collection
from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import AXI4Signature

WIDTH = 64
BEAT_SIZE = 3  #: AxSIZE of full beats
COMMANDS_ID, FAULT_ID, FENCE_ID = 64, 65, 66  #: walks have those below


class WalkPort(wiring.Component):
    """Joins managers of 64-bit AXI4 whose IDs differ, combinationally in both directions.

    Managers take turns by address: of reads one at a time, of writes one from its AW or first W beat, whichever comes
    first, to the later of its AW and last W beat. Responses go where their ID says.

    Parameters
    ----------
    ids : the IDs of each manager; those of different managers must differ

    Ports
    -----
    managers : In, AXI4
    memory : Out, AXI4
    """

    def __init__(self, *ids: Collection[int]):
        if not ids:
            raise ValueError("A walk port needs the IDs of one manager or more")
        flat = [each for group in ids for each in group]
        if len(set(flat)) != len(flat) or not all(0 <= each < 256 for each in flat):
            raise ValueError(f"IDs of managers must differ and be in 0..255, not {ids!r}")
        self._ids = ids
        signature = AXI4Signature(WIDTH)
        super().__init__({"managers": In(signature).array(len(ids)), "memory": Out(signature)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._reads(m)
        self._writes(m)
        for name in ("r", "b"):
            response = getattr(self.memory, name)
            with m.Switch(response.payload.id):
                for manager, ids in zip(self.managers, self._ids, strict=True):
                    port = getattr(manager, name)
                    m.d.comb += port.payload.eq(response.payload)
                    with m.Case(*ids):
                        m.d.comb += [port.valid.eq(response.valid), response.ready.eq(port.ready)]
        return m

    def _choose(self, m: Module, name: str, wanting: list[Value], held: Value) -> Signal:
        """Whose turn it is: with ``held`` the same as before, else the next after that one that wants it."""
        count = len(wanting)
        before = Signal(range(count), name=f"{name}_before")
        chosen = Signal(range(count), name=f"{name}_chosen")
        m.d.comb += chosen.eq(before)
        with m.If(~held):
            with m.Switch(before):
                for manager in range(count):
                    with m.Case(manager):
                        for step in reversed(range(1, count + 1)):
                            with m.If(wanting[(manager + step) % count]):
                                m.d.comb += chosen.eq((manager + step) % count)
        m.d.sync += before.eq(chosen)
        return chosen

    def _reads(self, m: Module) -> None:
        ar = self.memory.ar
        held = Signal()
        chosen = self._choose(m, "ar", [manager.ar.valid for manager in self.managers], held)
        m.d.sync += held.eq(ar.valid & ~ar.ready)
        with m.Switch(chosen):
            for index, manager in enumerate(self.managers):
                with m.Case(index):
                    m.d.comb += [
                        ar.valid.eq(manager.ar.valid),
                        ar.payload.eq(manager.ar.payload),
                        manager.ar.ready.eq(ar.ready),
                    ]

    def _writes(self, m: Module) -> None:
        aw, w = self.memory.aw, self.memory.w
        held, addressed, written = Signal(), Signal(), Signal()
        wanting = [manager.aw.valid | manager.w.valid for manager in self.managers]
        chosen = self._choose(m, "aw", wanting, held)
        with m.Switch(chosen):
            for index, manager in enumerate(self.managers):
                with m.Case(index):
                    m.d.comb += [
                        aw.valid.eq(manager.aw.valid & ~addressed),
                        aw.payload.eq(manager.aw.payload),
                        manager.aw.ready.eq(aw.ready & ~addressed),
                        w.valid.eq(manager.w.valid & ~written),
                        w.payload.eq(manager.w.payload),
                        manager.w.ready.eq(w.ready & ~written),
                    ]
        address_over, data_over, over = Signal(), Signal(), Signal()
        m.d.comb += [
            address_over.eq(addressed | aw.valid & aw.ready),
            data_over.eq(written | w.valid & w.ready & w.payload.last),
            over.eq(address_over & data_over),
        ]
        m.d.sync += [
            held.eq(Mux(over, 0, held | aw.valid | w.valid)),
            addressed.eq(address_over & ~over),
            written.eq(data_over & ~over),
        ]
