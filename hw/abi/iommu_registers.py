# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's registers, read from their one description in SystemRDL (:file:`iommu.rdl`)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from systemrdl import RDLCompiler
from systemrdl.node import AddrmapNode, RegNode

from hw.abi.registers import Register, register_of

SOURCE = Path(__file__).with_name("iommu.rdl")
ADDRESS_BITS = 12
MOST_COUNTERS = 31


def description() -> AddrmapNode:
    """The elaborated SystemRDL description, for exporters."""
    compiler = RDLCompiler()
    compiler.compile_file(str(SOURCE))
    return compiler.elaborate("iommu").top


@cache
def iommu_registers() -> Mapping[str, Register]:
    """All registers by name: ``ddtp``, ``cqcsr``, ``iohpmctr1`` … ``iohpmctr31``. Offsets are bytes from the base."""
    registers = {}
    for node in description().descendants(unroll=True):
        if isinstance(node, RegNode):
            # The specification numbers its arrays from 1.
            index = node.current_idx[0] + 1 if node.current_idx else ""
            name = f"{node.inst_name}{index}"
            registers[name] = register_of(name, node, node.absolute_address)
    return MappingProxyType(registers)
