# SPDX-License-Identifier: BSD-2-Clause
"""Interrupts of pools that run low, so that software can add buffers before one is empty."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.nic.interrupts import VECTOR_BITS
from hw.nic.recycle.interfaces import PoolWrite, at_most, count_bits


class LowWaterMark(data.Struct):
    """Register LOW_WATER."""

    threshold: 32
    vector: VECTOR_BITS
    arm: 1


class LowWater(wiring.Component):
    """Interrupts when fewer buffers of a pool are free than LOW_WATER says; listens to that register.

    A write to it with ``arm`` arms, one without disarms. Armed, a pool fires in the first cycle after the write in
    which fewer than the threshold are free: at once if they are so already, and also if for one cycle only. That
    disarms. The threshold 0 never fires. A pool that is cleared is disarmed, and what it fired but has not put up is
    forgotten.

    Pools take turns, each a cycle in which no message waits. If no other does, one is put up three cycles after the one
    in which too few were free, or four after a write that fires at once, or by as many more as there are other pools at
    most. It has the vector that the register held then. A pool that fires again while its message waits for its turn
    has one for both.

    Ports
    -----
    write : In
        Accepted register writes.
    free : In
        Buffers of each pool on its free list.
    clear : In
        Bit per pool, for one cycle.
    hold : In
        No further message is put up.
    interrupt : Out, stream
        Vectors, held until they are taken.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                "free": In(data.ArrayLayout(count_bits(config), config.pools)),
                "clear": In(config.pools),
                "hold": In(1),
                "interrupt": Out(stream.Signature(VECTOR_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pools = self._config.pools
        mark = Signal(LowWaterMark)
        m.d.comb += mark.eq(self.write.data)
        pending, taken = Signal(pools), Signal(pools)
        for p in range(pools):
            threshold = Signal(count_bits(self._config), name=f"threshold_{p}")
            arming, armed, low = (Signal(name=f"{name}_{p}") for name in ("arming", "armed", "low"))
            written = self.write.at.low_water & (self.write.pool == p)
            # What is low by the threshold of the write before counts for that one only.
            m.d.sync += [
                low.eq(self.free[p] < threshold),
                arming.eq(written & mark.arm & ~self.clear[p]),
                armed.eq((arming | (armed & ~low)) & ~written & ~self.clear[p]),
                pending[p].eq(((pending[p] & ~taken[p]) | (armed & low)) & ~self.clear[p]),
            ]
            with m.If(written):
                m.d.sync += threshold.eq(at_most(mark.threshold, len(threshold)))

        m.submodules.vectors = vectors = Memory(shape=VECTOR_BITS, depth=pools, init=[])
        store, vector = vectors.write_port(), vectors.read_port(domain="comb")
        m.d.comb += [
            store.en.eq(self.write.at.low_water),
            store.addr.eq(self.write.pool),
            store.data.eq(mark.vector),
        ]
        turn = Signal(range(pools))
        m.d.comb += vector.addr.eq(turn)
        with m.If(~self.interrupt.valid | self.interrupt.ready):
            m.d.comb += taken.eq((pending.bit_select(turn, 1) & ~self.hold) << turn)
            m.d.sync += [
                self.interrupt.valid.eq(taken.any()),
                self.interrupt.payload.eq(vector.data),
                turn.eq(Mux(turn == pools - 1, 0, turn + 1)),
            ]
        return m
