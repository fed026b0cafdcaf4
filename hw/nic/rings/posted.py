# SPDX-License-Identifier: BSD-2-Clause
"""How far software has posted descriptors."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.abi.rings import INDEX_BITS
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.queue_register import QueueRegister


class PostedIndices(wiring.Component):
    """Take the producer indices of doorbells, once they have been checked.

    A doorbell's index counts five cycles after its write, if it lies at most a ring ahead of the first descriptor not
    yet taken, and does not move back; otherwise the doorbell is reported, in the fifth cycle. Doorbells may come every
    cycle. One whose queue is not live meanwhile does nothing.

    Parameters
    ----------
    config : NicConfig
    size, doorbell : names of the ring's registers in ``register_map(...).queue``
    producer : name of the doorbell's field with the producer index

    Members
    -------
    queue_write : register writes
    live : queues that take new work; a queue is not live after a report
    clear : a queue's index returns to 0
    taken : of each queue, free-running index of the first descriptor not yet taken
    posted : of each queue, free-running index one past the last descriptor posted
    refused, refused_queue : a doorbell that is not taken, for one cycle
    """

    def __init__(self, config: NicConfig, *, size: str, doorbell: str, producer: str):
        self._config = config
        self._size = QueueRegister(config, size, width=INDEX_BITS)
        self._doorbell = doorbell
        fields = register_map(config.queues).queue[doorbell].fields
        if producer not in fields:
            raise ValueError(f"Register {doorbell} has no field {producer!r}; it has {', '.join(fields)}")
        self._producer = fields[producer]
        indices = data.ArrayLayout(INDEX_BITS, config.queues)
        super().__init__(
            {
                "queue_write": In(QueueWrite(config)),
                "live": In(config.queues),
                "clear": In(config.queues),
                "taken": In(indices),
                "posted": Out(indices),
                "refused": Out(1),
                "refused_queue": Out(range(config.queues)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.size = size = self._size
        wiring.connect(m, size.write, wiring.flipped(self.queue_write))
        write = self.queue_write
        #: A doorbell's way: the index it brings, operands of its checks, distances, verdict.
        bell = data.StructLayout({"valid": 1, "queue": range(self._config.queues), "index": INDEX_BITS})
        rung, read, measured, judged = (Signal(bell, name=n) for n in ("rung", "read", "measured", "judged"))
        last, first, limit, ahead, forward, reach = (
            Signal(INDEX_BITS, name=n) for n in ("last", "first", "limit", "ahead", "forward", "reach")
        )
        sound, counts = Signal(), Signal()
        # The index of each queue's last doorbell, even if that has yet to be checked: should it be refused, then the
        # queue stops, and no later one counts.
        latest = Signal(data.ArrayLayout(INDEX_BITS, self._config.queues))

        m.d.sync += [
            rung.valid.eq(write.at[self._doorbell] & self.live.bit_select(write.queue, 1)),
            rung.queue.eq(write.queue),
            rung.index.eq(write.data[self._producer.lsb :]),
        ]
        for before, after in ((rung, read), (read, measured), (measured, judged)):
            m.d.sync += [after.eq(before), after.valid.eq(before.valid & self.live.bit_select(before.queue, 1))]
        m.d.comb += size.reads[0].queue.eq(rung.queue)
        m.d.sync += [last.eq(latest[rung.queue]), first.eq(self.taken[rung.queue]), limit.eq(size.reads[0].value)]
        with m.If(rung.valid):
            m.d.sync += latest[rung.queue].eq(rung.index)
        m.d.sync += [ahead.eq(read.index - first), forward.eq(read.index - last), reach.eq(limit)]
        m.d.sync += sound.eq((ahead <= reach) & (forward <= reach))
        m.d.comb += [
            counts.eq(judged.valid & self.live.bit_select(judged.queue, 1)),
            self.refused.eq(counts & ~sound),
            self.refused_queue.eq(judged.queue),
        ]
        with m.If(counts & sound):
            m.d.sync += self.posted[judged.queue].eq(judged.index)
        for queue in range(self._config.queues):
            with m.If(self.clear[queue]):
                m.d.sync += [self.posted[queue].eq(0), latest[queue].eq(0)]
        return m
