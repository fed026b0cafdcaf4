# SPDX-License-Identifier: BSD-2-Clause
"""Lifecycle of all pools: the one place that decides whether a pool takes part."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import PoolState
from hw.config import NicConfig
from hw.nic.recycle.interfaces import PoolWrite

#: Cycles in a row in which a pool must be found cleared, or idle, before that is believed: more than any event takes
#: from its cause to the counts, or ``clear`` to the memories.
SETTLE_CYCLES = 16


class PoolControl(data.Struct):
    """Register CONTROL."""

    enable: 1
    lifo: 1


class PoolLifecycle(wiring.Component):
    """States of all pools. Listens to CONTROL.

    ========  ==========================================  ========================================================
    state     entered                                     left
    ========  ==========================================  ========================================================
    DISABLED  after reset; from DRAINING when idle; from  ``enable`` = 1: CLEARING
              CLEARING if it is not to be enabled still
    CLEARING  ``enable`` = 1                              all is cleared: ENABLED if ``enable`` was written 1 last,
                                                          otherwise DISABLED
    ENABLED   from CLEARING                               ``enable`` = 0: DRAINING
    DRAINING  ``enable`` = 0                              idle: DISABLED
    ========  ==========================================  ========================================================

    All other writes change nothing: the registers refuse ``enable`` = 1 while DRAINING. A state is left in the cycle
    after the write, or after its condition was true for :data:`SETTLE_CYCLES` cycles of it in a row. So ``clearing``
    may rise less than that after ``clear``, and ``idle`` may be so late to tell of what ``enabled`` let happen.

    Ports
    -----
    write : In
        Accepted register writes.
    clear : Out
        Bit per pool, for one cycle, the first of CLEARING: all state of the pool returns to that of an empty pool.
    lifo : Out
        Bit per pool, from ``clear`` on until the next: what CONTROL.lifo said when the pool was enabled.
    clearing : In
        Bit per pool: a memory is being cleared.
    idle : In
        Bit per pool: no buffer is outstanding or ahead, and nothing is on its way.
    enabled : Out
        Bit per pool, while ENABLED: buffers may join and leave the free list.
    live : Out
        Bit per pool, while ENABLED or DRAINING: buffers may come back.
    state : Out
        Of each pool.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        pools = config.pools
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                "clear": Out(pools),
                "lifo": Out(pools),
                "clearing": In(pools),
                "idle": In(pools),
                "enabled": Out(pools),
                "live": Out(pools),
                "state": Out(data.ArrayLayout(PoolState, pools)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        control = PoolControl(self.write.data[: PoolControl.as_shape().size])
        m.d.sync += self.clear.eq(0)
        for pool in range(self._config.pools):
            state, settled = Signal(PoolState), Signal(range(SETTLE_CYCLES))
            before, wanted = Signal(), Signal()
            holds, leaves = Signal(), Signal()
            written = self.write.at.control & (self.write.pool == pool)
            start, stop = written & control.enable, written & ~control.enable
            m.d.comb += [
                self.state[pool].eq(state),
                self.enabled[pool].eq(state == PoolState.ENABLED),
                self.live[pool].eq((state == PoolState.ENABLED) | (state == PoolState.DRAINING)),
                wanted.eq(Mux(written, control.enable, before)),
                leaves.eq(holds & (settled == SETTLE_CYCLES - 1)),
            ]
            m.d.sync += [before.eq(wanted), settled.eq(0)]
            with m.If(holds & ~leaves):
                m.d.sync += settled.eq(settled + 1)
            with m.Switch(state):
                with m.Case(PoolState.DISABLED):
                    with m.If(start):
                        m.d.sync += [
                            state.eq(PoolState.CLEARING),
                            self.clear[pool].eq(1),
                            self.lifo[pool].eq(control.lifo),
                        ]
                with m.Case(PoolState.CLEARING):
                    m.d.comb += holds.eq(~self.clearing[pool])
                    with m.If(leaves):
                        m.d.sync += state.eq(Mux(wanted, PoolState.ENABLED, PoolState.DISABLED))
                with m.Case(PoolState.ENABLED):
                    with m.If(stop):
                        m.d.sync += state.eq(PoolState.DRAINING)
                with m.Case(PoolState.DRAINING):
                    m.d.comb += holds.eq(self.idle[pool])
                    with m.If(leaves):
                        m.d.sync += state.eq(PoolState.DISABLED)
        return m
