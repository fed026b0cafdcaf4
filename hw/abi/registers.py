# SPDX-License-Identifier: BSD-2-Clause
"""The register map, read from its one description in SystemRDL (:file:`nic.rdl`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from systemrdl import RDLCompiler
from systemrdl.node import AddressableNode, AddrmapNode, FieldNode, RegNode

SOURCE = Path(__file__).with_name("nic.rdl")
WORD_BYTES = 8
MAX_FRAME = 9216  #: bytes of the longest frame that any NIC is built for, without FCS


@dataclass(frozen=True)
class Field:
    """One field of a register."""

    name: str
    lsb: int
    width: int
    reset: int
    pulse: bool  #: a write of 1 lasts one cycle and reads back as 0

    @property
    def mask(self) -> int:
        """Bits of the field in the register."""
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True)
class Register:
    """One register."""

    name: str  #: dotted path without index, for example ``queue.rx_control``
    offset: int  #: bytes from the base; of queue 0 where there is one per queue
    readable: bool
    writable: bool
    hardware: bool  #: its value comes from the hardware rather than from software
    fields: Mapping[str, Field]
    width: int = 64  #: bits

    @property
    def reset(self) -> int:
        """Value after reset."""
        return sum(field.reset << field.lsb for field in self.fields.values())

    @property
    def mask(self) -> int:
        """All bits that exist."""
        return sum(field.mask for field in self.fields.values())

    def pack(self, **values: int) -> int:
        """Register value of these fields, zero where not given."""
        word = 0
        for name, value in values.items():
            if name not in self.fields:
                raise ValueError(f"Register {self.name} has no field {name!r}; it has {', '.join(self.fields)}")
            field = self.fields[name]
            if not 0 <= int(value) < 1 << field.width:
                raise ValueError(f"{self.name}.{name} must be in 0..{(1 << field.width) - 1}, not {value!r}")
            word |= int(value) << field.lsb
        return word

    def get(self, word: int, name: str) -> int:
        """One field of a register value."""
        field = self.fields[name]
        return word >> field.lsb & ((1 << field.width) - 1)


@dataclass(frozen=True)
class RegisterMap:
    """All registers of the NIC: those of the port, and those that each queue pair has."""

    queues: int
    size: int  #: bytes of address space
    port: Mapping[str, Register]
    queue: Mapping[str, Register]  #: offsets within queue 0's page
    queue_base: int
    queue_stride: int

    def address(self, name: str, queue: int | None = None) -> int:
        """Byte offset of a register: ``address("control")``, ``address("rx_doorbell", queue=1)``."""
        if queue is None:
            return self.port[name].offset
        if not 0 <= queue < self.queues:
            raise ValueError(f"Queue must be in 0..{self.queues - 1}, not {queue!r}")
        return self.queue_base + queue * self.queue_stride + self.queue[name].offset

    def describe(self, offset: int) -> str:
        """What is at a byte offset, for messages: ``control``, ``rx_doorbell of queue 1``."""
        queue, inside = divmod(offset - self.queue_base, self.queue_stride)
        registers, where = (self.port, "") if queue < 0 else (self.queue, f" of queue {queue}")
        for register in registers.values():
            if register.offset == (offset if queue < 0 else inside):
                return f"{register.name}{where}"
        return f"{offset:#x}, where no register is"


def description(queues: int, max_frame: int = MAX_FRAME) -> AddrmapNode:
    """The elaborated SystemRDL description for a number of queue pairs and a longest frame, for exporters."""
    for name, value, low, high in (("Queues", queues, 1, 64), ("max_frame", max_frame, 64, MAX_FRAME)):
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be an integer in {low}..{high}, not {value!r}")
    compiler = RDLCompiler()
    compiler.compile_file(str(SOURCE))
    return compiler.elaborate("nic", parameters={"QUEUES": queues, "MAX_FRAME": max_frame}).top


@cache
def register_map(queues: int, max_frame: int = MAX_FRAME) -> RegisterMap:
    """Elaborate the description for a number of queue pairs and a longest frame, which is a reset value and counts
    where those do."""
    top = description(queues, max_frame)
    pages = top.get_child_by_name("queue")
    assert isinstance(pages, AddressableNode)
    assert pages.array_stride is not None
    port: dict[str, Register] = {}
    queue: dict[str, Register] = {}
    for node in top.descendants(unroll=False):
        if not isinstance(node, RegNode):
            continue
        path = node.get_path_segments(array_suffix="", empty_array_suffix="")[1:]
        if path[0] == "queue":
            name = ".".join(path[1:])
            queue[name] = register_of(name, node, node.raw_absolute_address - pages.raw_absolute_address)
        else:
            name = ".".join(path)
            port[name] = register_of(name, node, node.raw_absolute_address)
    return RegisterMap(
        queues=queues,
        size=pages.raw_absolute_address + queues * pages.array_stride,
        port=MappingProxyType(port),
        queue=MappingProxyType(queue),
        queue_base=pages.raw_absolute_address,
        queue_stride=pages.array_stride,
    )


def register_of(name: str, node: RegNode, offset: int) -> Register:
    """A register of an elaborated description."""
    fields = {field.inst_name: _field(field) for field in node.fields()}
    return Register(
        name=name,
        offset=offset,
        readable=node.has_sw_readable,
        writable=node.has_sw_writable,
        hardware=any(field.is_hw_writable for field in node.fields()),
        fields=MappingProxyType(fields),
        width=node.get_property("regwidth"),
    )


def _field(node: FieldNode) -> Field:
    reset = node.get_property("reset")
    return Field(
        name=node.inst_name,
        lsb=node.low,
        width=node.width,
        reset=reset if isinstance(reset, int) else 0,
        pulse=bool(node.get_property("singlepulse")),
    )
