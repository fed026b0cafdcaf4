# SPDX-License-Identifier: BSD-2-Clause
"""Lifecycle of one direction of all queue pairs: the one place that decides whether a queue runs."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.rings import LINE_BYTES, MAX_RING_ENTRIES, MIN_RING_ENTRIES, QueueError, QueueState
from hw.config import NicConfig
from hw.nic.interfaces import QueueControl, QueueWrite, queue_fault_stream
from hw.nic.queue_register import QueueRegister

RINGS = {"rx": ("rx_fill", "rx_completion"), "tx": ("tx_ring", "tx_completion")}


class QueueStatus(data.Struct):
    """What software reads in RX_STATUS and TX_STATUS."""

    state: QueueState
    stopped: 1
    reserved: 5
    error: QueueError
    reserved_high: 4


class _RingChecks(data.Struct):
    sizes: 2
    bases: 2


_AFTER_RESET = {"sizes": 0b00, "bases": 0b11}  # size 0 is no ring, base 0 is aligned


class Lifecycle(wiring.Component):
    """States of all queues of one direction.

    ===========  ============================================================  =========================================
    state        entered                                                       left
    ===========  ============================================================  =========================================
    DISABLED     after reset; from DRAINING when no block is busy              ``enable`` = 1: ENABLED or ERROR
    ENABLED      rings are valid                                               ``enable`` = 0: DRAINING; a fault: ERROR
    DRAINING     ``enable`` = 0                                                no block busy: DISABLED
    ERROR        ring registers invalid at start, or a fault of a block        ``enable`` = 0: DRAINING
    ===========  ============================================================  =========================================

    Writing ``enable`` = 1 starts a DISABLED queue only, ``enable`` = 0 stops any; other writes change nothing. One
    cycle after an accepted start the blocks see ``clear``, two cycles after it ``enable``. A fault takes ``enable``
    away one cycle after it is reported and keeps its error until the queue is started again; of several in one cycle
    the one of the lowest port counts. Faults of queues that do not run are ignored: a stopping queue needs no second
    reason. DRAINING ends two cycles after the first in which the queue is neither enabled nor busy, and in ERROR the
    queue is ``stopped`` one cycle after it.

    A start finds, in this order, RING_SIZE, RING_BASE, and at RX of a queue with a pool IN_PLACE: its completion ring
    would lie where its fill ring does. A ring's size or base, and RX_POOL, counts three cycles after its write: in time
    for a start, as writes are :data:`hw.nic.interfaces.WRITE_CYCLES` apart.

    Parameters
    ----------
    config : NicConfig
    direction : "rx" or "tx"
    blocks : blocks that hold state of these queues
    faults : blocks that can report a fault

    Ports
    -----
    write : In
        Accepted register writes.
    stop : In
        Function reset: while high, every ENABLED queue drains and none starts.
    control : Out, array
        One :class:`hw.nic.interfaces.QueueControl` for each block.
    faults : In, array of streams
        Always ready.
    status : Out, array
        :class:`QueueStatus` of each queue. ``stopped``: no DMA will be issued and every response has been received.
    started : Out
        Bit per queue, for one cycle: ``clear`` is given.
    failed : Out
        Bit per queue, while its state is ERROR.
    idle : Out
        Every queue was ``stopped`` in the cycle before; a register, as the function reset is far away.
    """

    def __init__(self, config: NicConfig, direction: str, *, blocks: int, faults: int):
        if direction not in RINGS:
            raise ValueError(f"Direction must be one of {', '.join(RINGS)}, not {direction!r}")
        self._config = config
        self._direction = direction
        super().__init__(
            {
                "write": In(QueueWrite(config)),
                "stop": In(1),
                "control": Out(QueueControl(config)).array(blocks),
                "faults": In(queue_fault_stream(config)).array(faults),
                "status": Out(data.ArrayLayout(QueueStatus, config.queues)),
                "started": Out(config.queues),
                "failed": Out(config.queues),
                "idle": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        valid = self._valid_rings(m)
        pools = self._direction == "rx" and self._config.pools
        in_place = self._in_place(m) if pools else Const(0, self._config.queues)
        stopped = Signal(self._config.queues)
        m.d.sync += self.idle.eq(stopped.all())

        for q in range(self._config.queues):
            status = self.status[q]
            state, error, starting = Signal(QueueState), Signal(QueueError), self.started[q]
            running = Signal()  # as of the state, which takes longer to tell
            # Nothing is under way. It is a cycle late, as busy bits come from far away; so it must not have seen a
            # cycle in which blocks could begin something.
            calm = Signal(init=1)
            m.d.sync += calm.eq(~running & ~Cat(control.busy[q] for control in self.control).any())
            m.d.comb += [
                status.state.eq(state),
                status.stopped.eq(stopped[q]),
                status.error.eq(error),
                self.failed[q].eq(state == QueueState.ERROR),
                stopped[q].eq(((state == QueueState.DISABLED) | self.failed[q]) & calm),
            ]
            for control in self.control:
                m.d.comb += [control.enable[q].eq(running), control.clear[q].eq(starting)]

            control_write = self.write.at[f"{self._direction}_control"] & (self.write.queue == q)
            start, stop = control_write & self.write.data[0] & ~self.stop, control_write & ~self.write.data[0]
            m.d.sync += starting.eq(0)
            with m.If(starting):
                m.d.sync += running.eq(1)
            with m.Switch(state):
                with m.Case(QueueState.DISABLED):
                    with m.If(start & valid[q].as_value().all() & ~in_place[q]):
                        m.d.sync += [state.eq(QueueState.ENABLED), error.eq(QueueError.NONE), starting.eq(1)]
                    with m.Elif(start):
                        m.d.sync += state.eq(QueueState.ERROR)
                        m.d.sync += error.eq(Mux(valid[q].sizes.all(), QueueError.RING_BASE, QueueError.RING_SIZE))
                        with m.If(valid[q].as_value().all() & in_place[q]):
                            m.d.sync += error.eq(QueueError.IN_PLACE)
                with m.Case(QueueState.ENABLED):
                    with m.If(stop | self.stop):
                        m.d.sync += [state.eq(QueueState.DRAINING), running.eq(0)]
                    with m.Else():
                        for fault in reversed(self.faults):
                            with m.If(fault.valid & (fault.payload.queue == q)):
                                m.d.sync += [
                                    state.eq(QueueState.ERROR),
                                    error.eq(fault.payload.error),
                                    running.eq(0),
                                ]
                with m.Case(QueueState.DRAINING):
                    with m.If(calm):
                        m.d.sync += state.eq(QueueState.DISABLED)
                with m.Case(QueueState.ERROR):
                    with m.If(stop):
                        m.d.sync += state.eq(QueueState.DRAINING)

        for fault in self.faults:
            m.d.comb += fault.ready.eq(1)
        return m

    def _valid_rings(self, m):
        """Whether the ring registers of each queue hold what a ring may have: checked as they are written, so that
        their values need not be kept here."""
        queues = self._config.queues
        valid = Signal(data.ArrayLayout(_RingChecks, queues), init=[_AFTER_RESET] * queues)
        # First the checks of the word, whatever register it is for and whosever, then what they are of.
        word, entries = self.write.data, self.write.data[:16]
        power_of_two, in_range, aligned = Signal(), Signal(), Signal()
        queue = Signal.like(self.write.queue)
        m.d.sync += [
            power_of_two.eq((entries & (entries - 1))[:16] == 0),
            in_range.eq((entries >= MIN_RING_ENTRIES) & (entries <= MAX_RING_ENTRIES)),
            aligned.eq(word % LINE_BYTES == 0),
            queue.eq(self.write.queue),
        ]
        for i, ring in enumerate(RINGS[self._direction]):
            size_written, base_written = Signal(name=f"{ring}_size_written"), Signal(name=f"{ring}_base_written")
            m.d.sync += [
                size_written.eq(self.write.at[f"{ring}_size"]),
                base_written.eq(self.write.at[f"{ring}_base"]),
            ]
            for q in range(queues):
                with m.If(size_written & (queue == q)):
                    m.d.sync += valid[q].sizes[i].eq(in_range & power_of_two)
                with m.If(base_written & (queue == q)):
                    m.d.sync += valid[q].bases[i].eq(aligned)
        return valid

    def _in_place(self, m):
        """Bit per queue: it has a pool, and both its rings one base.

        Bases are read of the queue that a write names, or named without one, and compared a cycle later. A queue that
        is started was written to, for its sizes, if not for its bases."""
        queues = self._config.queues
        pooled, same = Signal(queues), Signal(queues)
        queue, compared = Signal.like(self.write.queue), Signal.like(self.write.queue)
        m.d.sync += [queue.eq(self.write.queue), compared.eq(queue)]
        bases = []
        for ring in RINGS["rx"]:
            m.submodules[f"{ring}_base"] = register = QueueRegister(self._config, f"{ring}_base", width=64)
            connect(m, register.write, flipped(self.write))
            base = Signal(64, name=f"{ring}_base")
            m.d.comb += register.reads[0].queue.eq(queue)
            m.d.sync += base.eq(register.reads[0].value)
            bases.append(base)
        m.d.sync += same.bit_select(compared, 1).eq(bases[0] == bases[1])
        with m.If(self.write.at.rx_pool):
            m.d.sync += pooled.bit_select(self.write.queue, 1).eq(self.write.data[0])
        return pooled & same
