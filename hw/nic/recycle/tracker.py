# SPDX-License-Identifier: BSD-2-Clause
"""Who has each buffer, and who may hand it back."""

from amaranth.hdl import Cat, Module, Mux, Signal
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


class _Step(data.StructLayout):
    """An operation on its way.

    Members
    -------
    valid, operation, buffer : there is one, and of which buffer, if that ``exists`` and is ``in_range``
    same : whether it is of the same buffer as the operations one, two and three cycles before it
    live, enabled : the pool is
    error : why it is refused, whatever the buffer's state
    joins, gives : it is a JOIN; a ``claim`` or a REMOVE; which is not refused for that
    taken_back : of the operations two and three cycles before, one made the buffer the NIC's
    changed, changed_to : of those, one made it join or not
    """

    def __init__(self, config: NicConfig):
        flags = ("exists", "in_range", "live", "enabled", "joins", "gives", "claim", "taken_back", "changed")
        super().__init__(
            {
                "valid": 1,
                "operation": Operation(config),
                "buffer": BufferName(config),
                "same": 3,
                "error": RecycleError,
                **dict.fromkeys(flags, 1),
                "changed_to": 1,
            }
        )


class _Change(data.StructLayout):
    """What an operation does to its ``buffer``, if it ``claims`` it: its bit CLAIMED becomes ``claimed``. If it also
    ``joins`` or is removed, whether it has ``joined``."""

    def __init__(self, config: NicConfig):
        super().__init__({"claims": 1, "claimed": 1, "joins": 1, "joined": 1, "buffer": BufferName(config)})


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
        taken, read, known = (Signal(_Step(config), name=name) for name in ("taken", "read", "known"))
        changes = [Signal(_Change(config), name=f"change_{age}") for age in range(3)]
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
        for name, bit in bits.items():
            port = bit.read_port()
            m.d.comb += port.addr.eq(place(taken.buffer))
            m.d.sync += was[name].eq(port.data)
        self._prepare(m, taken, read, known, changes)
        self._judge(m, known, was, changes)
        m.d.comb += [
            writes["claimed"].en.eq(changes[1].claims),
            writes["claimed"].addr.eq(place(changes[1].buffer)),
            writes["claimed"].data.eq(changes[1].claimed),
        ]
        self._clear(m, changes[1], writes["joined"])
        self._deliver(m, bits["delivered"], writes["delivered"])
        return m

    def _prepare(
        self, m: Module, taken: data.View, read: data.View, known: data.View, changes: list[data.View]
    ) -> None:
        """All of the judgement that the buffer's state does not count for, and whether it is among the changes that the
        memories did not have when it was looked up."""
        same = [earlier.buffer == taken.buffer for earlier in (read, known, changes[1])]
        m.d.sync += [
            read.same.eq(Cat(same)),
            read.live.eq(self.live.bit_select(taken.buffer.pool, 1) & taken.exists),
            read.enabled.eq(self.enabled.bit_select(taken.buffer.pool, 1) & taken.exists),
        ]
        operation = read.operation
        request = operation.request
        is_claim, joins = request == PoolCommand.NONE, request == PoolCommand.JOIN
        error = Signal(RecycleError)
        with m.If(is_claim & (operation.claim.error != RecycleError.NONE)):
            m.d.comb += error.eq(operation.claim.error)
        with m.Elif(~Mux(joins, read.enabled, read.live)):
            m.d.comb += error.eq(RecycleError.POOL)
        with m.Elif(~read.in_range):
            m.d.comb += error.eq(RecycleError.RANGE)
        passes = read.valid & (error == RecycleError.NONE)
        older = [read.same[age] & changes[age].claims for age in (1, 2)]
        m.d.sync += [
            known.error.eq(error),
            known.joins.eq(passes & joins),
            known.gives.eq(passes & (is_claim | (request == PoolCommand.REMOVE))),
            known.claim.eq(is_claim),
            known.taken_back.eq(older[0] | older[1]),
            known.changed.eq(read.same[1] & changes[1].joins | read.same[2] & changes[2].joins),
            known.changed_to.eq(Mux(read.same[1] & changes[1].joins, changes[1].joined, changes[2].joined)),
        ]

    def _judge(self, m: Module, known: data.View, was: dict[str, Signal], changes: list[data.View]) -> None:
        """The judgement of the operation that is ``known``, and what follows from it for those behind it."""
        newest, now = changes[1], changes[0]
        joined, out = (Signal(name=name) for name in ("joined", "out"))
        again = known.same[0]
        m.d.comb += [
            joined.eq(Mux(again & newest.joins, newest.joined, Mux(known.changed, known.changed_to, was["joined"]))),
            # Whatever was done to it by one of the last operations, since then it is the NIC's.
            out.eq((was["delivered"] ^ was["claimed"]) & ~(known.taken_back | (again & newest.claims))),
            now.buffer.eq(known.buffer),
            now.claims.eq(Mux(joined, known.gives & out, known.joins)),
            # What joins may have been out when it was forgotten.
            now.claimed.eq(was["delivered"]),
            now.joins.eq(now.claims & ~known.claim),
            now.joined.eq(known.joins),
        ]
        error = Signal(RecycleError)
        m.d.comb += error.eq(known.error)
        with m.If(known.joins & joined):
            m.d.comb += error.eq(RecycleError.JOINED)
        with m.Elif(known.gives & ~joined):
            m.d.comb += error.eq(RecycleError.UNKNOWN)
        with m.Elif(known.gives & ~out):
            m.d.comb += error.eq(RecycleError.NOT_OUT)
        m.d.sync += [
            changes[1].eq(changes[0]),
            changes[2].eq(changes[1]),
            self.judgement.strobe.eq(known.valid),
            self.judgement.operation.eq(known.operation),
            self.judgement.error.eq(error),
            self.judgement.state.eq(Mux(joined, Mux(out, BufferState.OUT, BufferState.NIC), BufferState.NONE)),
        ]

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
