# SPDX-License-Identifier: BSD-2-Clause
"""How the IOMMU's registers reach the blocks that hold them."""

from amaranth import Cat, Mux, Value
from amaranth.lib import data

from hw.abi.iommu_registers import ADDRESS_BITS, iommu_registers

ROW_BYTES = 8
ROW_BITS = ADDRESS_BITS - 3


class RegisterWrite(data.Struct):
    """An accepted write, for one cycle: to a row of 8 bytes, or to a 4-byte half of one."""

    strobe: 1
    row: ROW_BITS
    halves: 2
    data: 64


def register_layout(name: str) -> data.FlexibleLayout:
    """A register's fields at their bits, as wide as the register."""
    register = iommu_registers()[name]
    fields = {field.name: data.Field(field.width, field.lsb) for field in register.fields.values()}
    return data.FlexibleLayout(register.width, fields)


def row_of(name: str) -> int:
    """The row that a register is in."""
    return iommu_registers()[name].offset // ROW_BYTES


def index_mask(base: data.View) -> Value:
    """The bits of an index that a queue's size leaves."""
    return ((2 << base.log2sz_1) - 1)[:32]


def written(write: data.View, name: str) -> Value:
    """Whether this is a write to a register, or to half of it."""
    register = iommu_registers()[name]
    here = write.strobe & (write.row == row_of(name))
    return here if register.width == 64 else here & write.halves[register.offset // 4 % 2]


def merged(write: data.View, name: str, old: Value | data.View) -> data.View:
    """What the write makes of the register's value: bits that do not exist are 0."""
    register = iommu_registers()[name]
    halves = [write.data[:32], write.data[32:]]
    if register.width == 32:
        value = halves[register.offset // 4 % 2]
    else:
        held = Value.cast(old)
        value = Cat(Mux(write.halves[k], halves[k], held[32 * k : 32 * k + 32]) for k in range(2))
    return data.View(register_layout(name), (value & register.mask)[: register.width])
