# SPDX-License-Identifier: BSD-2-Clause
"""Exclusive monitors: whether an 8-byte word stayed untouched since it was read (Arm IHI 0022, A7.2)."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from sim.host.dram_port import ADDRESS_BITS, Exclusive

WORD_BYTES = 8


class ExclusiveMonitor(wiring.Component):
    """One reservation for each of ``monitors`` IDs (the ID's low bits choose).

    An exclusive read reserves its word for its ID; every write of a byte of the word ends all reservations of it, also
    one on the same clock edge as the read, which saw the word as it was before. An exclusive write is granted, in the
    same cycle, if its ID holds a reservation of its word; being a write, it ends that reservation. What software stores
    is not seen here: so a granted write is to happen only if the word still holds what the read returned.

    Ports
    -----
    read, write : Exclusive, from the port's two halves
    written, address, strobe : the storage's write, from whichever port
    word : In, what the storage read on the last clock edge
    expected : Out 64, what the exclusive read of the ID that now writes returned
    """

    def __init__(self, width: int, id_width: int, monitors: int):
        self.width = width
        self.monitors = monitors
        super().__init__(
            {
                "read": In(Exclusive(id_width)),
                "write": In(Exclusive(id_width)),
                "written": In(1),
                "address": In(ADDRESS_BITS),
                "strobe": In(width // 8),
                "word": In(width),
                "expected": Out(8 * WORD_BYTES),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word_bits = WORD_BYTES.bit_length() - 1
        lane_bits = (self.width // 8 // WORD_BYTES).bit_length() - 1
        word = data.StructLayout({"lane": lane_bits, "row": ADDRESS_BITS - word_bits - lane_bits})
        row = self.address[word_bits + lane_bits :]
        touched = Signal(1 << lane_bits)  # lanes that the write touches
        m.d.comb += [
            touched[lane].eq(self.written & self.strobe.word_select(lane, WORD_BYTES).any())
            for lane in range(1 << lane_bits)
        ]
        m.d.comb += self.write.granted.eq(0)

        index_bits = (self.monitors - 1).bit_length()
        m.submodules.values = values = Memory(shape=8 * WORD_BYTES, depth=self.monitors, init=[])
        keep, show = values.write_port(), values.read_port(domain="comb")
        lane = Signal(lane_bits)
        m.d.sync += [
            keep.en.eq(self.read.attempt),
            keep.addr.eq(self.read.id[:index_bits]),
            lane.eq(self.read.address[word_bits:]),
        ]
        m.d.comb += [
            keep.data.eq(self.word.word_select(lane, 8 * WORD_BYTES)),
            show.addr.eq(self.write.id[:index_bits]),
            self.expected.eq(show.data),
        ]
        for index in range(self.monitors):
            valid = Signal(name=f"valid_{index}")
            held = Signal(word, name=f"held_{index}")
            chosen = [access.id % self.monitors == index for access in (self.read, self.write)]
            with m.If(valid & chosen[1] & (held.as_value() == self.write.address[word_bits:])):
                m.d.comb += self.write.granted.eq(1)
            reserves = Signal(name=f"reserves_{index}")
            after = Signal(word, name=f"after_{index}")
            m.d.comb += [
                reserves.eq(self.read.attempt & chosen[0]),
                after.as_value().eq(Mux(reserves, self.read.address[word_bits:], held.as_value())),
            ]
            m.d.sync += held.eq(after)
            with m.If(touched.bit_select(after.lane, 1) & (row == after.row)):
                m.d.sync += valid.eq(0)
            with m.Elif(reserves):
                m.d.sync += valid.eq(1)
        return m
