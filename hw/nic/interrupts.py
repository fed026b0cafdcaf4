# SPDX-License-Identifier: BSD-2-Clause
"""Interrupts of queue pairs and pools: race-free arming, moderation, and one stream of messages."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.rings import INDEX_BITS, Arm
from hw.config import NicConfig
from hw.nic.interfaces import Published, QueueWrite
from hw.nic.stats.counters import InterruptEvent

VECTOR_BITS = 16


class Moderation(data.Struct):
    """Register MODERATION."""

    cycles: 16
    count: 16
    vector: VECTOR_BITS


class Completions(wiring.Signature):
    """What became of one direction of a queue pair: ``published`` for one cycle with ``count`` more completions up to
    ``producer``; ``restarted``: indices are zero again; ``failed``: while the direction is in ERROR."""

    def __init__(self):
        super().__init__(
            {
                "published": Out(1),
                "producer": Out(INDEX_BITS),
                "count": Out(3),
                "restarted": Out(1),
                "failed": Out(1),
            }
        )


class PairInterrupt(wiring.Component):
    """Decides when one queue pair interrupts. One-shot: ``fire`` disarms.

    Arming says which completions software has seen. ``fire`` comes as soon as ``moderation.count`` others wait, or
    ``moderation.cycles`` after the first of them, or after ``arm`` if that one was visible before, whichever is first.
    0 switches that criterion off, as ``ethtool -C`` has it; with both 0 one completion fires at once, and with a count
    alone fewer wait for ever. A completion published in the very cycle of ``arm`` is compared as visible. So whichever
    comes first, no completion that software has not seen is missed; and moderation bounds the rate of interrupts even
    where completions come during every poll.

    A restarted direction's indices are zero, but the pair stays armed, for the other direction may be running: until
    software arms it again, what was armed before may bring one interrupt too many, or early.

    While a direction is in ERROR, arming fires at once, so that software cannot miss it among the other direction's
    completions; it ends that by disabling the direction.

    Ports
    -----
    arm, seen : In
        ``arm`` for one cycle with the consumer indices.
    moderation : In
        Read up to three cycles after a completion is published, or after ``arm``; a change leaves a running delay as it
        is.
    rx, tx : In
        What happened in either direction.
    fire : Out
        For one cycle, five cycles after its cause (a delay of *n* cycles: *n* + 4 after the completion; an error that
        lasts: four after ``arm``).
    """

    arm: In(1)
    seen: In(Arm)
    moderation: In(Moderation)
    rx: In(Completions())
    tx: In(Completions())
    fire: Out(1)

    def elaborate(self, platform):
        m = Module()
        # First what software has not seen of either direction,
        published, failed = Signal(), Signal()
        m.d.sync += [
            published.eq(self.rx.published | self.tx.published),
            failed.eq(self.rx.failed | self.tx.failed),
        ]
        beyond, counts = [], []
        for side, consumer in ((self.rx, self.seen.rx_consumer), (self.tx, self.seen.tx_consumer)):
            producer, visible = Signal(INDEX_BITS), Signal(INDEX_BITS)
            with m.If(side.restarted):
                m.d.comb += visible.eq(0)
            with m.Elif(side.published):
                m.d.comb += visible.eq(side.producer)
            with m.Else():
                m.d.comb += visible.eq(producer)
            behind, count = Signal(INDEX_BITS), Signal.like(side.count)
            m.d.sync += [
                producer.eq(visible),
                behind.eq(visible - consumer),
                count.eq(Mux(side.published, side.count, 0)),
            ]
            beyond.append(behind)
            counts.append(count)

        # then of both together,
        unseen, new = Signal(INDEX_BITS + 1), Signal(len(counts[0]) + 1)
        arm, more = self._two_later(m, self.arm), Signal()
        m.d.sync += [unseen.eq(sum(beyond)), new.eq(sum(counts)), more.eq(published)]

        # then what that means.
        armed, changed = Signal(), Signal()
        waiting = Signal(INDEX_BITS + 1)
        delay, delaying = Signal(16), Signal()
        fire, due, expired = Signal(), Signal(), Signal()
        counted, timed, neither = Signal(), Signal(), Signal()
        m.d.sync += [
            counted.eq(self.moderation.count.any()),
            timed.eq(self.moderation.cycles.any()),
            neither.eq(~(self.moderation.count.any() | self.moderation.cycles.any())),
        ]
        # What was found in the cycle of `arm` is of what it ended.
        m.d.comb += fire.eq(armed & ~arm & (failed | due | expired))
        m.d.sync += [
            changed.eq(arm | more),
            due.eq(changed & ~arm & ((counted & (waiting >= self.moderation.count)) | (neither & waiting.any()))),
            expired.eq(delaying & ~arm & (delay == 0)),
        ]
        with m.If(arm):
            m.d.sync += [
                armed.eq(1),
                waiting.eq(unseen),
                delaying.eq(timed & unseen.any()),
                delay.eq(self.moderation.cycles - 1),
            ]
        with m.Elif(fire):
            m.d.sync += [armed.eq(0), delaying.eq(0)]
        with m.Elif(armed):
            with m.If(more):
                m.d.sync += [waiting.eq(waiting + new), delaying.eq(delaying | timed)]
            with m.If(delaying):
                m.d.sync += delay.eq(delay - 1)
            with m.Elif(more):
                m.d.sync += delay.eq(self.moderation.cycles - 1)

        m.d.sync += self.fire.eq(fire)
        return m

    def _two_later(self, m, signal):
        once, twice = Signal(), Signal()
        m.d.sync += [once.eq(signal), twice.eq(once)]
        return twice


class Interrupts(wiring.Component):
    """Interrupts of all queue pairs, and of pools where they are built in, as messages to the host.

    Listens to the registers ARM and MODERATION. A pair that fires while its previous message still waits for the host
    sends one message for both: it comes after all of their causes. Pairs take turns, and all pools together have one
    turn like a pair.

    Ports
    -----
    write : In
        Accepted register writes.
    rx_published, tx_published : In
        Completions that became visible: an interrupt is never before its completion.
    rx_started, tx_started, rx_failed, tx_failed : In
        Bit per queue, from :class:`hw.nic.lifecycle.Lifecycle`.
    pool_interrupt : In, stream
        Where pools are built in: vectors of theirs, taken when their message is put up.
    hold : In
        No further message is put up.
    interrupt : Out, stream
        Vectors; of a pair, the one that MODERATION held when the message was put up.
    sent : Out
        The host took a message of ``queue``, not one of a pool.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        pools = {"pool_interrupt": In(stream.Signature(VECTOR_BITS))} if config.pools else {}
        super().__init__(
            {
                "write": In(QueueWrite(config)),
                "rx_published": In(Published(config)),
                "tx_published": In(Published(config)),
                "rx_started": In(config.queues),
                "tx_started": In(config.queues),
                "rx_failed": In(config.queues),
                "tx_failed": In(config.queues),
                "hold": In(1),
                "interrupt": Out(stream.Signature(VECTOR_BITS)),
                "sent": Out(InterruptEvent(config)),
            }
            | pools
        )

    def elaborate(self, platform):
        m = Module()
        queues = self._config.queues
        sources = queues + bool(self._config.pools)
        waiting, taken = Signal(queues), Signal(sources)
        vectors = Signal(data.ArrayLayout(VECTOR_BITS, sources))
        for q in range(queues):
            m.submodules[f"pair_{q}"] = pair = PairInterrupt()
            moderation = Signal(Moderation)
            mine = self.write.queue == q
            with m.If(self.write.at.moderation & mine):
                m.d.sync += moderation.eq(self.write.data)
            m.d.comb += [
                pair.arm.eq(self.write.at.arm & mine),
                pair.seen.eq(self.write.data),
                pair.moderation.eq(moderation),
                vectors[q].eq(moderation.vector),
            ]
            for side, published, started, failed in (
                (pair.rx, self.rx_published, self.rx_started, self.rx_failed),
                (pair.tx, self.tx_published, self.tx_started, self.tx_failed),
            ):
                m.d.comb += [
                    side.published.eq(published.strobe & (published.queue == q)),
                    side.producer.eq(published.producer),
                    side.count.eq(published.count),
                    side.restarted.eq(started[q]),
                    side.failed.eq(failed[q]),
                ]
            m.d.sync += waiting[q].eq(pair.fire | waiting[q] & ~taken[q])
        sent = self.interrupt.valid & self.interrupt.ready
        pending = waiting
        current = Signal(range(sources))
        if self._config.pools:
            pending = Cat(waiting, self.pool_interrupt.valid)
            sent &= current != queues
            m.d.comb += [
                vectors[queues].eq(self.pool_interrupt.payload),
                self.pool_interrupt.ready.eq(taken[queues]),
            ]
        following = Signal(range(sources))
        m.d.comb += following.eq(current)
        with m.Switch(current):
            for source in range(sources):
                with m.Case(source):
                    for step in reversed(range(1, sources + 1)):
                        with m.If(pending[(source + step) % sources]):
                            m.d.comb += following.eq((source + step) % sources)
        with m.If(~self.interrupt.valid | self.interrupt.ready):
            m.d.sync += self.interrupt.valid.eq(pending.any() & ~self.hold)
            with m.If(pending.any() & ~self.hold):
                m.d.comb += taken.eq(1 << following)
                m.d.sync += [current.eq(following), self.interrupt.payload.eq(vectors[following])]
        m.d.comb += [
            self.sent.strobe.eq(sent),
            self.sent.queue.eq(current),
        ]
        return m
