# SPDX-License-Identifier: BSD-2-Clause
"""Which queues have a pool, and which."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite


class PoolOfQueue(data.ArrayLayout):
    """Number of the pool of each queue."""

    def __init__(self, config: NicConfig):
        super().__init__(range(max(2, config.pools)), config.queues)


class QueuePools(wiring.Component):
    """Register RX_POOL of all queues at once.

    A write counts two cycles later. A queue whose pool does not exist is ``pooled``, so that what its fill descriptors
    say is not taken for an address, but no pool of its is ever ``enabled``.

    Members
    -------
    write : register writes; those of RX_POOL come only while the queue is DISABLED
    enabled : pools that give buffers
    pooled : queues that have a pool
    pools : its number, of each queue; any that the bits can tell where there is no such pool, also one of none
    existing : queues that have a pool that exists
    supplied : those whose pool is enabled, from a register
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "write": In(QueueWrite(config)),
                "enabled": In(config.pools),
                "pooled": Out(config.queues),
                "pools": Out(PoolOfQueue(config)),
                "existing": Out(config.queues),
                "supplied": Out(config.queues),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pool = register_map(self._config.queues).queue["rx_pool"].fields["pool"]
        written, queue, word = Signal(), Signal.like(self.write.queue), Signal(pool.lsb + pool.width)
        m.d.sync += [written.eq(self.write.at.rx_pool), queue.eq(self.write.queue), word.eq(self.write.data)]
        number = word[pool.lsb :]
        for q in range(self._config.queues):
            with m.If(written & (queue == q)):
                m.d.sync += [
                    self.pooled[q].eq(word[0]),
                    self.existing[q].eq(word[0] & (number < self._config.pools)),
                    self.pools[q].eq(number),
                ]
            m.d.sync += self.supplied[q].eq(self.existing[q] & self.enabled.bit_select(self.pools[q], 1))
        return m
