# SPDX-License-Identifier: BSD-2-Clause
"""A look inside of a component, for what a proof by induction has to say about it besides what its ports show."""

from typing import Any

from amaranth import Const, Module, Signal, Value
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
        *place, name = path
        found = {
            id(signal): signal
            for statement in self._at(place).statements["sync"]
            for signal in statement._lhs_signals()  # there is no public list of them
            if signal.name == name
        }
        return list(found.values())

    def register(self, *path: str) -> Signal:
        """The only register of this name."""
        found = self.registers(*path)
        if len(found) != 1:
            raise ValueError(f"{len(found)} registers are called {'.'.join(path)}")
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

    def _at(self, path: Any) -> Any:
        place = self.fragment
        for name in path:
            place = place.find_subfragment(name)
        return place
