# SPDX-License-Identifier: BSD-2-Clause
"""Which of many small numbers were marked since reset: what makes a memory as good as one that is cleared by reset."""

from amaranth import Array, Module, Signal, Value

ROW_BITS = 64  # simulators hold a row in one word; shifts of a longer one are several times as slow


class Marks:
    """A bit for each number, all off after reset.

    Parameters
    ----------
    m : where its logic goes
    name : of its signals
    index_bits : bits of a number
    """

    def __init__(self, m: Module, name: str, index_bits: int):
        if not isinstance(index_bits, int) or not 1 <= index_bits <= 16:
            raise ValueError(f"Numbers must have 1..16 bits, not {index_bits!r}")
        self._m = m
        self._row_bits = min(index_bits, ROW_BITS.bit_length() - 1)
        count = 1 << (index_bits - self._row_bits)
        self._rows = [Signal(1 << self._row_bits, name=f"{name}_{row}") for row in range(count)]

    def has(self, index: Value) -> Value:
        """Whether a number is marked."""
        rows = Array(self._rows)
        return rows[index[self._row_bits :]].bit_select(index[: self._row_bits], 1)

    def mark(self, strobe: Value, index: Value) -> None:
        """Mark a number, from the next cycle on."""
        m = self._m
        with m.If(strobe):
            with m.Switch(index[self._row_bits :]):
                for number, row in enumerate(self._rows):
                    with m.Case(number):
                        m.d.sync += row.eq(row | (1 << index[: self._row_bits]))
