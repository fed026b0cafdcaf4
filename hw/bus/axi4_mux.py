# SPDX-License-Identifier: BSD-2-Clause
"""Several AXI4 managers on one port, told apart by their IDs."""

from collections.abc import Collection, Sequence
from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus.axi4 import AXI4Signature


class AXI4Mux(wiring.Component):
    """Joins managers of AXI4 whose IDs differ, combinationally in both directions.

    Managers take turns by burst, so that each of those that want to send gets an equal share of the bursts, whatever
    the others do: of reads one at a time, of writes one from its AW or first W beat, whichever comes first, to the
    later of its AW and last W beat. Responses go where their ID says. A manager that begins a write and withholds the
    rest of it holds up the others.

    Parameters
    ----------
    data_width : bits of a beat
    ids : the IDs of each manager, which uses no others; those of different managers must differ
    id_width : bits of an ID

    Ports
    -----
    managers : In, AXI4
    memory : Out, AXI4
    """

    def __init__(self, data_width: int, *ids: Collection[int], id_width: int = 8):
        signature = AXI4Signature(data_width, id_width=id_width)
        if not ids:
            raise ValueError("A mux needs the IDs of one manager or more")
        flat = [each for group in ids for each in group]
        if len(set(flat)) != len(flat) or not all(0 <= each < 1 << id_width for each in flat):
            raise ValueError(f"IDs of managers must differ and be in 0..{(1 << id_width) - 1}, not {ids!r}")
        self._ids = ids
        self._id_width = id_width
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
                    with m.Case(*_patterns(ids, self._id_width)):
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


def _patterns(ids: Collection[int], width: int) -> Sequence[str]:
    """What matches these IDs: one pattern for an aligned block of them, else one for each."""
    low, count = min(ids), len(ids)
    free = count.bit_length() - 1
    if count == 1 << free and low % count == 0 and max(ids) == low + count - 1:
        return [f"{low:0{width}b}"[: width - free] + "-" * free]
    return [f"{each:0{width}b}" for each in ids]
