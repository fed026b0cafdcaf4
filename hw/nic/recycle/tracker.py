# SPDX-License-Identifier: BSD-2-Clause
"""Who has each buffer, and who may hand it back."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import BufferState, PoolCommand, RecycleError
from hw.config import NicConfig
from hw.nic.recycle.interfaces import POOL_BITS, BufferEvent, BufferName, Claim
from hw.nic.recycle.pool_table import place

JUDGED_CYCLES = 4  #: from an operation to its judgement


class Operation(data.StructLayout):
    """Something is to be done about a buffer.

    Members
    -------
    claim : of a claim; of a request only ``pool`` and ``id`` count
    request : NONE for a claim
    scans : whose request it is: of the one who scans, not of the commands
    """

    def __init__(self, config: NicConfig):
        super().__init__({"claim": Claim(config), "request": PoolCommand, "scans": 1})


class Judgement(wiring.Signature):
    """What became of an operation: ``strobe`` for one cycle, ``error``, NONE if it was done, and the buffer's ``state``
    before."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {
                "strobe": Out(1),
                "operation": Out(Operation(config)),
                "error": Out(RecycleError),
                "state": Out(BufferState),
            }
        )


class Tracker(wiring.Component):
    """One state for each buffer: none has joined, the NIC has it, or software.

    A buffer is software's between being ``delivered`` and the first claim after that. Each of the two is a bit, toggled
    by one writer: whose they are differs while it is out. A third bit tells whether it has joined.

    Operations are judged in order, one a cycle, each by all that were before it, and by what was delivered two cycles
    before it at least; a ``delivered`` is never lost, whatever operation comes in whichever cycle.

    =========  ==============================================================  ===================================
    operation  refused with                                                    done
    =========  ==============================================================  ===================================
    claim      its own error; POOL if the pool is not live; RANGE; UNKNOWN,    the buffer is the NIC's
               NOT_OUT
    REMOVE     POOL, RANGE, UNKNOWN, NOT_OUT                                   the same, and has not joined
    JOIN       POOL if the pool is not enabled; RANGE; JOINED                  it has joined, and is the NIC's
    QUERY      POOL if the pool is not live; RANGE                             nothing
    =========  ==============================================================  ===================================

    ``clear`` makes all buffers of a pool such that have not joined: it is ``clearing`` for as many cycles as it has
    ids, and one for each JOIN and REMOVE that comes meanwhile; pools that are cleared at once, one after the other.
    During that a pool must not be live, nor may anything of it be delivered.

    Members
    -------
    operations : stream of :class:`Operation`, always taken
    judgement : what became of it, :data:`JUDGED_CYCLES` later
    delivered : software has the buffer now, which has joined and is the NIC's; one a cycle, not the same within four
    live, enabled : pools
    clear, clearing : see above
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "operations": In(stream.Signature(Operation(config), always_ready=True)),
                "judgement": Out(Judgement(config)),
                "delivered": In(BufferEvent(config)),
                "live": In(config.pools),
                "enabled": In(config.pools),
                "clear": In(config.pools),
                "clearing": Out(config.pools),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        depth = config.pools * config.pool_buffers
        names = ("joined", "delivered", "claimed")
        bits = {name: memory.Memory(shape=1, depth=depth, init=[], attrs={"no_rw_check": 1}) for name in names}
        for name, bit in bits.items():
            m.submodules[name] = bit
        writes = {name: bit.write_port() for name, bit in bits.items()}

        # An operation's way: taken in, looked up, what was looked up in a register, judged.
        step = data.StructLayout(
            {"valid": 1, "operation": Operation(config), "buffer": BufferName(config), "exists": 1, "in_range": 1}
        )
        taken, read, known = (Signal(step, name=name) for name in ("taken", "read", "known"))
        claim = self.operations.payload.claim
        m.d.sync += [
            taken.valid.eq(self.operations.valid),
            taken.operation.eq(self.operations.payload),
            taken.buffer.pool.eq(claim.pool),
            taken.buffer.id.eq(claim.id),
            taken.exists.eq(claim.pool < config.pools if config.pools < 1 << POOL_BITS else 1),
            taken.in_range.eq(claim.id < config.pool_buffers),
            read.eq(taken),
            known.eq(read),
        ]
        was = {name: Signal(name=f"was_{name}") for name in names}
        live, enabled = Signal(), Signal()
        for name, bit in bits.items():
            port = bit.read_port()
            m.d.comb += port.addr.eq(place(taken.buffer))
            m.d.sync += was[name].eq(port.data)
        m.d.sync += [
            live.eq(self.live.bit_select(read.buffer.pool, 1) & read.exists),
            enabled.eq(self.enabled.bit_select(read.buffer.pool, 1) & read.exists),
        ]
        self._judge(m, known, was, live, enabled, writes)
        self._deliver(m, bits["delivered"], writes["delivered"])
        return m

    def _judge(
        self, m: Module, known: Signal, was: dict[str, Signal], live: Signal, enabled: Signal, writes: dict
    ) -> None:
        """The judgement of the operation that is ``known``, and what follows from it for those behind it."""
        config = self._config
        operation, buffer = known.operation, known.buffer
        request = operation.request
        # What the two operations before this one made of the buffer was not there yet when it was looked up.
        change = data.StructLayout({"claims": 1, "claimed": 1, "joins": 1, "joined": 1, "buffer": BufferName(config)})
        changes = [Signal(change, name=f"change_{age}") for age in range(3)]
        joined, claimed = Signal(), Signal()
        m.d.comb += [joined.eq(was["joined"]), claimed.eq(was["claimed"])]
        for earlier in reversed(changes[1:]):
            same = earlier.buffer == buffer
            with m.If(same & earlier.claims):
                m.d.comb += claimed.eq(earlier.claimed)
            with m.If(same & earlier.joins):
                m.d.comb += joined.eq(earlier.joined)
        out = was["delivered"] ^ claimed
        is_claim, joins = request == PoolCommand.NONE, request == PoolCommand.JOIN
        removes, asks = request == PoolCommand.REMOVE, request == PoolCommand.QUERY
        error, done = Signal(RecycleError), Signal()
        reasons: tuple[tuple[Value, Value], ...] = (
            (is_claim & (operation.claim.error != RecycleError.NONE), operation.claim.error),
            (~Mux(joins, enabled, live), RecycleError.POOL),
            (~known.in_range, RecycleError.RANGE),
            (joins & joined, RecycleError.JOINED),
            ((is_claim | removes) & ~joined, RecycleError.UNKNOWN),
            ((is_claim | removes) & ~out, RecycleError.NOT_OUT),
        )
        m.d.comb += error.eq(RecycleError.NONE)
        for number, (condition, reason) in enumerate(reasons):
            with m.If(condition) if number == 0 else m.Elif(condition):
                m.d.comb += error.eq(reason)
        change_now = changes[0]
        m.d.comb += [
            done.eq(known.valid & (error == RecycleError.NONE) & ~asks),
            change_now.buffer.eq(buffer),
            change_now.claims.eq(done),
            # What joins may have been out when it was forgotten.
            change_now.claimed.eq(was["delivered"]),
            change_now.joins.eq(done & ~is_claim),
            change_now.joined.eq(joins),
            writes["claimed"].en.eq(change_now.claims),
            writes["claimed"].addr.eq(place(buffer)),
            writes["claimed"].data.eq(change_now.claimed),
        ]
        m.d.sync += [
            changes[1].eq(changes[0]),
            changes[2].eq(changes[1]),
            self.judgement.strobe.eq(known.valid),
            self.judgement.operation.eq(operation),
            self.judgement.error.eq(error),
            self.judgement.state.eq(Mux(joined, Mux(out, BufferState.OUT, BufferState.NIC), BufferState.NONE)),
        ]
        self._clear(m, change_now, writes["joined"])

    def _clear(self, m: Module, change: data.View, joined: memory.WritePort) -> None:
        """Write what joined or was removed, and meanwhile clear one pool after the other."""
        config = self._config
        waiting = Signal(config.pools)
        active, pool, number = Signal(), Signal(range(config.pools)), Signal(range(config.pool_buffers))
        cleared = Signal(BufferName(config))
        m.d.comb += [
            cleared.pool.eq(pool),
            cleared.id.eq(number),
            joined.en.eq(change.joins | active),
            joined.addr.eq(Mux(change.joins, place(change.buffer), place(cleared))),
            joined.data.eq(change.joins & change.joined),
            self.clearing.eq(waiting | Mux(active, 1 << pool, 0)),
        ]
        with m.If(active & ~change.joins):
            m.d.sync += [number.eq(number + 1), active.eq(number != config.pool_buffers - 1)]
        with m.If(~active & waiting.any()):
            m.d.sync += [active.eq(1), number.eq(0)]
            for each in reversed(range(config.pools)):
                with m.If(waiting[each]):
                    m.d.sync += [pool.eq(each), waiting.eq(waiting & ~(1 << each))]
        for each in range(config.pools):
            with m.If(self.clear[each]):
                m.d.sync += waiting[each].eq(1)

    def _deliver(self, m: Module, bit: memory.Memory, write: memory.WritePort) -> None:
        """Toggle the bit of a buffer that is software's now."""
        port = bit.read_port()
        stages = [
            Signal(data.StructLayout({"valid": 1, "buffer": BufferName(self._config)}), name=f"deliver_{i}")
            for i in range(2)
        ]
        value = Signal()
        m.d.comb += [
            port.addr.eq(place(self.delivered.buffer)),
            write.en.eq(stages[1].valid),
            write.addr.eq(place(stages[1].buffer)),
            write.data.eq(~value),
        ]
        m.d.sync += [
            stages[0].valid.eq(self.delivered.strobe),
            stages[0].buffer.eq(self.delivered.buffer),
            stages[1].eq(stages[0]),
            value.eq(port.data),
        ]
