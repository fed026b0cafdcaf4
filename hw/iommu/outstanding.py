# SPDX-License-Identifier: BSD-2-Clause
"""Accesses under way: how many memory has not answered, of each ID, and whether a fence must still wait for any."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.bus.marks import Marks
from hw.iommu.interfaces import FenceSignature


class Outstanding(wiring.Component):
    """Counts the accesses of a channel by the fence's color, from acceptance to the last response.

    An access is accepted with the fence's color of that cycle, and later either sent to memory or refused. Those of one
    ID are sent in the order in which they were accepted, and memory answers them in that order. As a fence changes the
    color only while no access of the other color is left, an ID's answers belong to the other color as long as it has
    any: two counts for each ID tell all.

    Counts are exact from the cycle after their event.

    Parameters
    ----------
    id_width : bits of an AXI ID
    limit : most accesses at memory
    held : most accesses accepted and not yet sent

    Ports
    -----
    fence : see :class:`hw.iommu.interfaces.FenceSignature`
    accept : an access comes, with ``fence.color``
    room : ``send`` is allowed
    send, send_id, send_color : it goes to memory
    answer, answer_id : memory's last response to it is taken by the device
    refuse, refuse_color : the last response to one that never went there is; never together with ``answer``
    look_id, idle : nothing of that ID is at memory
    other_id, other_idle : the same for another one
    """

    def __init__(self, id_width: int, *, limit: int, held: int):
        for name, value in (("limit", limit), ("held", held)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer from 1 up, not {value!r}")
        self.id_width = id_width
        self.limit = limit
        self.held = held
        super().__init__(
            {
                "fence": In(FenceSignature()),
                "accept": In(1),
                "room": Out(1),
                "send": In(1),
                "send_id": In(id_width),
                "send_color": In(1),
                "answer": In(1),
                "answer_id": In(id_width),
                "refuse": In(1),
                "refuse_color": In(1),
                "look_id": In(id_width),
                "idle": Out(1),
                "other_id": In(id_width),
                "other_idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        at_memory = Signal(range(self.limit + 1))
        m.d.comb += self.room.eq(at_memory != self.limit)
        m.d.sync += at_memory.eq(at_memory + self.send - self.answer)

        # Both sides count on, so that each memory has one writer; what is under way is the difference.
        counts = data.ArrayLayout(range(self.limit + 1), 2)
        sent = _Counts(m, "sent", counts, self.id_width)
        answered = _Counts(m, "answered", counts, self.id_width)
        sent.step(self.send, self.send_id, self.send_color, sent.read(self.send_id))

        color = self.fence.color
        sent_of_answer, answered_before = sent.read(self.answer_id), answered.read(self.answer_id)
        other = Signal()
        answer_color = Signal()
        m.d.comb += [
            other.eq(sent_of_answer[~color] != answered_before[~color]),
            answer_color.eq(color ^ other),
        ]
        for index, idle in ((self.look_id, self.idle), (self.other_id, self.other_idle)):
            m.d.comb += idle.eq(sent.read(index).as_value() == answered.read(index).as_value())
        answered.step(self.answer, self.answer_id, answer_color, answered_before)

        ended, ended_color = Signal(), Signal()
        m.d.comb += [
            ended.eq(self.answer | self.refuse),
            ended_color.eq(Mux(self.answer, answer_color, self.refuse_color)),
        ]
        for each in range(2):
            count = Signal(range(self.limit + self.held + 1), name=f"count_{each}")
            m.d.sync += count.eq(count + (self.accept & (color == each)) - (ended & (ended_color == each)))
            m.d.comb += self.fence.busy[each].eq(count != 0)
        return m


class _Counts:
    """A pair of counts for each ID, in a memory. Memories survive reset; a word counts only if it was written since."""

    def __init__(self, m: Module, name: str, shape: data.Layout, id_width: int):
        self._m = m
        self._name = name
        self._shape = shape
        self._written = Marks(m, f"{name}_written", id_width)
        self._memory = Memory(shape=shape, depth=1 << id_width, init=[])
        m.submodules[name] = self._memory

    def read(self, index: Any) -> Any:
        """The pair of an ID."""
        port = self._memory.read_port(domain="comb")
        pair = Signal(self._shape)
        self._m.d.comb += port.addr.eq(index)
        with self._m.If(self._written.has(index)):
            self._m.d.comb += pair.eq(port.data)
        return pair

    def step(self, strobe: Any, index: Any, color: Any, before: Any) -> None:
        """Count one up of what :meth:`read` gave."""
        port = self._memory.write_port()
        self._m.d.comb += [port.addr.eq(index), port.en.eq(strobe)]
        for each in range(2):
            self._m.d.comb += port.data[each].eq(before[each] + (color == each))
        self._written.mark(strobe, index)
