# SPDX-License-Identifier: BSD-2-Clause
"""A look inside of a component, for what a proof by induction has to say about it besides what its ports show."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.asserts import AnySeq
from amaranth.hdl import Fragment


class Inside:
    """A component elaborated for a proof: a submodule for it, whose own submodules, signals and memories have names.

    Amaranth's queues are told that they are elaborated for a proof. They then assert that their level fits their
    pointers, which induction would not find by itself, and assume the same of reset's state, where all three are 0.
    """

    def __init__(self, component: Any):
        self.fragment = Fragment.get(component, "formal")

    def component(self, *path: str) -> Any:
        """The submodule at this path, as the object that was made into it."""
        return self._at(path).origins[0]

    def registers(self, *path: str) -> list[Signal]:
        """Registers by the path of their submodule and their name, in the order in which they are assigned. Of several
        that one statement made, as in ``a, b = Signal(), Signal()``, all but the last are called ``$signal``."""
        return self._assigned("sync", path)

    def register(self, *path: str) -> Signal:
        """The only register of this name."""
        return self._only(path, self.registers(*path))

    def wire(self, *path: str) -> Signal:
        """The only signal of this name that follows others in the same cycle."""
        return self._only(path, self._assigned("comb", path))

    def _assigned(self, domain: str, path: Any) -> list[Signal]:
        *place, name = path
        found = {
            id(signal): signal
            for statement in self._at(place).statements[domain]
            for signal in statement._lhs_signals()  # there is no public list of them
            if signal.name == name
        }
        return list(found.values())

    def _only(self, path: Any, found: list[Signal]) -> Signal:
        if len(found) != 1:
            raise ValueError(f"{len(found)} signals are called {'.'.join(path)}")
        return found[0]

    def state(self, *path: str) -> Value:
        """Whether the state machine of a submodule is in a state: the path ends with its name."""
        *place, name = path
        fsm = self._at(place).find_generated("fsm")
        return fsm.state == fsm.encoding[name]

    def rows(self, m: Module, *path: str) -> list[Any]:
        """What a memory holds, row by row, in the shape of its rows."""
        memory = self._at(path)
        shape, depth = memory.origins[0].shape, memory.origins[0].depth
        rows = []
        for index in range(depth):
            row = Signal(shape, name=f"{'_'.join(path)}_{index}")
            address = Const(index, (depth - 1).bit_length())
            memory.read_port(domain="comb", addr=address, data=row, en=Const(1), transparent_for=())
            rows.append(row)
        return rows

    def row(self, m: Module, address: Value, *path: str) -> Signal:
        """What a memory holds at an address, before the write of this cycle."""
        memory = self._at(path)
        row = Signal(memory.origins[0].shape)
        bits = (memory.origins[0].depth - 1).bit_length()
        memory.read_port(domain="comb", addr=address[:bits], data=row, en=Const(1), transparent_for=())
        return row

    def write(self, *path: str) -> Any:
        """The only write port of a memory."""
        (port,) = self._at(path)._write_ports
        return port

    def collide(self, m: Module, *path: str) -> list[Value]:
        """Let a memory answer anything where it reads what is written in the same cycle, as real ones may; the answers
        of its ports."""
        memory, answers = self._at(path), []
        for port in memory._read_ports:
            answer, data = port._data, Signal(len(port._data))
            port._data = data
            hits = [write._en.any() & (write._addr == port._addr) for write in memory._write_ports]
            collided = Signal()
            m.d.sync += collided.eq(Cat(hits).any())
            m.d.comb += answer.eq(Mux(collided, AnySeq(len(data)), data))
            answers.append(answer)
        return answers

    def _at(self, path: Any) -> Any:
        place = self.fragment
        for name in path:
            place = place.find_subfragment(name)
        return place
