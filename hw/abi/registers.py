# SPDX-License-Identifier: BSD-2-Clause
"""The register map, read from its one description in SystemRDL (:file:`nic.rdl`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from systemrdl import RDLCompiler
from systemrdl.node import AddressableNode, AddrmapNode, FieldNode, RegNode

from hw.abi.pools import MAX_POOLS

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
    """All registers of the NIC: those of the port, and those that each queue pair and each pool has."""

    queues: int
    pools: int
    size: int  #: bytes of address space
    port: Mapping[str, Register]
    queue: Mapping[str, Register]  #: offsets within queue 0's page
    pool: Mapping[str, Register]  #: offsets within pool 0's page
    queue_base: int
    queue_stride: int  #: also from one pool's page to the next

    @property
    def pool_base(self) -> int:
        """Byte offset of pool 0's page."""
        return self.queue_base + self.queues * self.queue_stride

    def address(self, name: str, queue: int | None = None, *, pool: int | None = None) -> int:
        """Byte offset of a register: ``address("control")``, ``address("rx_doorbell", queue=1)``,
        ``address("limit", pool=0)``."""
        if pool is not None:
            if not 0 <= pool < self.pools:
                raise ValueError(f"Pool must be in 0..{self.pools - 1}, not {pool!r}")
            return self.pool_base + pool * self.queue_stride + self.pool[name].offset
        if queue is None:
            return self.port[name].offset
        if not 0 <= queue < self.queues:
            raise ValueError(f"Queue must be in 0..{self.queues - 1}, not {queue!r}")
        return self.queue_base + queue * self.queue_stride + self.queue[name].offset

    def describe(self, offset: int) -> str:
        """What is at a byte offset, for messages: ``control``, ``rx_doorbell of queue 1``, ``limit of pool 0``."""
        queue, inside = divmod(offset - self.queue_base, self.queue_stride)
        pool = queue - self.queues
        registers, where = (self.port, "") if queue < 0 else (self.queue, f" of queue {queue}")
        if pool >= 0:
            registers, where = self.pool if pool < self.pools else {}, f" of pool {pool}"
        for register in registers.values():
            if register.offset == (offset if queue < 0 else inside):
                return f"{register.name}{where}"
        return f"{offset:#x}, where no register is"


def description(queues: int, max_frame: int = MAX_FRAME, pools: int = 0) -> AddrmapNode:
    """The elaborated SystemRDL description for a number of queue pairs, a longest frame and a number of pools, for
    exporters."""
    for name, value, low, high in (
        ("Queues", queues, 1, 64),
        ("max_frame", max_frame, 64, MAX_FRAME),
        ("Pools", pools, 0, MAX_POOLS),
    ):
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be an integer in {low}..{high}, not {value!r}")
    compiler = RDLCompiler()
    compiler.compile_file(str(SOURCE))
    return compiler.elaborate("nic", parameters={"QUEUES": queues, "MAX_FRAME": max_frame, "POOLS": pools}).top


@cache
def register_map(queues: int, max_frame: int = MAX_FRAME, pools: int = 0) -> RegisterMap:
    """Elaborate the description for a number of queue pairs, a longest frame, which is a reset value and counts where
    those do, and a number of pools."""
    top = description(queues, max_frame, pools)
    pages = top.get_child_by_name("queue")
    assert isinstance(pages, AddressableNode)
    assert pages.array_stride is not None
    found: dict[str, dict[str, Register]] = {"port": {}, "queue": {}, "pool": {}}
    for node in top.descendants(unroll=False):
        if not isinstance(node, RegNode):
            continue
        path = node.get_path_segments(array_suffix="", empty_array_suffix="")[1:]
        kind, base = "port", 0
        if path[0] in ("queue", "pool"):
            page = top.get_child_by_name(path[0])
            assert isinstance(page, AddressableNode)
            kind, base, path = path[0], page.raw_absolute_address, path[1:]
        name = ".".join(path)
        found[kind][name] = register_of(name, node, node.raw_absolute_address - base)
    return RegisterMap(
        queues=queues,
        pools=pools,
        size=pages.raw_absolute_address + (queues + pools) * pages.array_stride,
        queue_base=pages.raw_absolute_address,
        queue_stride=pages.array_stride,
        **{kind: MappingProxyType(registers) for kind, registers in found.items()},
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
