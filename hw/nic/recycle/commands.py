# SPDX-License-Identifier: BSD-2-Clause
"""Commands of all pools: buffers join and leave, are taken, and are asked about."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import BufferState, PoolCommand, RecycleError
from hw.abi.rings import BUFFER_ID_BITS
from hw.config import NicConfig
from hw.nic.queue_memory import QueueMemory
from hw.nic.recycle.interfaces import PoolWrite, RequestPort, TakePort
from hw.nic.recycle.misuse import RefusedCommand
from hw.nic.recycle.overdue import OWNER_BITS, TAKEN, OwnerPort
from hw.nic.recycle.pool_table import TableWrite

LENGTH_BITS = 16


class CommandWord(data.Struct):
    """Register COMMAND."""

    id: BUFFER_ID_BITS
    length: LENGTH_BITS
    command: PoolCommand


class CommandResult(data.Struct):
    """What software reads in RESULT."""

    id: BUFFER_ID_BITS
    error: RecycleError
    state: BufferState
    busy: 1
    reserved: 1
    queue: OWNER_BITS
    age: 16


class PoolCommands(wiring.Component):
    """Carries out what is written to COMMAND, one command at a time over all pools, which take turns. Listens to
    BUFFER_ADDRESS and COMMAND.

    ========  ================================================================================  ======================
    command   what happens                                                                      refused with
    ========  ================================================================================  ======================
    JOIN      the tracker is asked whether the id is free to join; if so, its entry is written  LENGTH, JOINED, and
              into the pool table, and in a later cycle it is told to let it join               those of the tracker
    REMOVE    the tracker is told                                                               those of the tracker
    TAKE      a buffer is taken, if the pool is ENABLED                                         POOL, EMPTY
    QUERY     the tracker is asked; of a buffer that is out, the record of hand-overs too       those of the tracker
    OVERDUE   the record of hand-overs is searched, if the pool is ENABLED or DRAINING          POOL, RANGE, EMPTY
    others    nothing                                                                           COMMAND
    ========  ================================================================================  ======================

    A pool is ``busy`` from the cycle after its command is written until ``result`` has all of it. The next command
    begins at most as many cycles after the one before as there are pools. It takes at most nine cycles, and what the
    blocks take that it asks: JOIN and QUERY ask two times, and a search takes longest. Commands that have waited since
    before their pool was cleared are refused with POOL.

    Ports
    -----
    write : In
        Accepted register writes; while a pool is busy, none to its COMMAND and BUFFER_ADDRESS.
    enabled, live : In
        Bit per pool, from :class:`hw.nic.recycle.lifecycle.PoolLifecycle`.
    clear : In
        Bit per pool: it begins anew.
    requests : Out
        To the tracker. What QUERY tells of an id that has not joined may be the error UNKNOWN or the state NONE alone.
    take : Out
        To the free list.
    owners : Out
        To :class:`hw.nic.recycle.overdue.Overdue`.
    table : Out
        Entries of the pool table. Only of ids that have not joined, and before they do.
    result : Out
        Register RESULT of each pool. ``queue`` and ``age`` are 0 unless ``state`` is OUT, and so is ``state`` after an
        error other than JOINED and NOT_OUT.
    busy : Out
        Bit per pool.
    refused : Out
        Commands that were refused, but not those with EMPTY.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        pools = config.pools
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                "enabled": In(pools),
                "live": In(pools),
                "clear": In(pools),
                "requests": Out(RequestPort(config)),
                "take": Out(TakePort(config)),
                "owners": Out(OwnerPort(config)),
                "table": Out(TableWrite(config)),
                "result": Out(data.ArrayLayout(CommandResult, pools)),
                "busy": Out(pools),
                "refused": Out(RefusedCommand(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        pool = Signal(range(config.pools))
        m.submodules.words = words = QueueMemory(CommandWord, config.pools)
        m.submodules.addresses = addresses = QueueMemory(64, config.pools)
        for memory, written in ((words, self.write.at.command), (addresses, self.write.at.buffer_address)):
            m.d.comb += [
                memory.read_queue.eq(pool),
                memory.write_enable.eq(written),
                memory.write_queue.eq(self.write.pool),
                memory.write_value.eq(self.write.data),
            ]
        with m.If(self.write.at.command):
            m.d.sync += self.result[self.write.pool].busy.eq(1)
        outdated = Signal(config.pools)  # commands of before their pool was cleared
        m.d.comb += self.busy.eq(Cat(self.result[p].busy for p in range(config.pools)))
        m.d.sync += outdated.eq((outdated | self.clear) & self.busy)
        late = outdated.bit_select(pool, 1)

        # The command in hand, and what is found out about it.
        word, enabled, live, in_range = Signal(CommandWord), Signal(), Signal(), Signal()
        joining, found = Signal(), Signal(CommandResult)
        request, take, owners = self.requests, self.take, self.owners
        m.d.comb += [
            request.request.payload.operation.eq(
                Mux((word.command == PoolCommand.JOIN) & ~joining, PoolCommand.QUERY, word.command)
            ),
            request.request.payload.pool.eq(pool),
            request.request.payload.id.eq(word.id),
            take.request.payload.pool.eq(pool),
            owners.request.payload.buffer.pool.eq(pool),
            owners.request.payload.buffer.id.eq(word.id),
            owners.request.payload.search.eq(word.command == PoolCommand.OVERDUE),
            self.table.buffer.pool.eq(pool),
            self.table.buffer.id.eq(word.id),
            self.table.entry.address.eq(addresses.value),
            self.table.entry.length.eq(word.length),
            self.refused.pool.eq(pool),
            self.refused.id.eq(word.id),
            self.refused.error.eq(found.error),
        ]

        def refuse(error):
            m.d.sync += found.error.eq(error)
            m.next = "DONE"

        with m.FSM():
            with m.State("CHOOSE"):
                m.d.sync += [word.eq(words.value), joining.eq(0)]
                with m.If(self.busy.bit_select(pool, 1)):
                    m.next = "BEGIN"
                with m.Else():
                    m.d.sync += pool.eq(Mux(pool == config.pools - 1, 0, pool + 1))
            with m.State("BEGIN"):
                m.d.sync += [
                    enabled.eq(self.enabled.bit_select(pool, 1)),
                    live.eq(self.live.bit_select(pool, 1)),
                    in_range.eq(word.id < config.pool_buffers),
                    found.eq(0),
                    found.id.eq(word.id),
                ]
                m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.Switch(word.command):
                    with m.Case(PoolCommand.JOIN):
                        m.next = "REQUEST"
                        with m.If(word.length == 0):
                            refuse(RecycleError.LENGTH)
                    with m.Case(PoolCommand.REMOVE, PoolCommand.QUERY):
                        m.next = "REQUEST"
                    with m.Case(PoolCommand.TAKE):
                        m.next = "TAKE"
                        with m.If(~enabled):
                            refuse(RecycleError.POOL)
                    with m.Case(PoolCommand.OVERDUE):
                        m.next = "ASK"
                        with m.If(~live):
                            refuse(RecycleError.POOL)
                        with m.Elif(~in_range):
                            refuse(RecycleError.RANGE)
                    with m.Default():
                        refuse(RecycleError.COMMAND)
                with m.If(late):
                    refuse(RecycleError.POOL)
            with m.State("REQUEST"):
                m.d.comb += request.request.valid.eq(1)
                with m.If(request.request.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If(request.answer.strobe):
                    m.d.sync += found.error.eq(request.answer.error)
                    with m.Switch(request.answer.error):
                        with m.Case(RecycleError.NONE, RecycleError.NOT_OUT, RecycleError.JOINED):
                            m.d.sync += found.state.eq(request.answer.state)
                    m.next = "ANSWERED"
            with m.State("ANSWERED"):
                m.next = "DONE"
                with m.Switch(word.command):
                    with m.Case(PoolCommand.JOIN):
                        unknown = (found.error == RecycleError.UNKNOWN) | (found.error == RecycleError.NONE)
                        with m.If(joining):
                            with m.If(found.error == RecycleError.NONE):
                                m.d.sync += found.state.eq(BufferState.NIC)
                        with m.Elif(late):
                            m.d.sync += found.error.eq(RecycleError.POOL)
                        with m.Elif(unknown & (found.state == BufferState.NONE)):
                            m.d.comb += self.table.strobe.eq(1)
                            m.d.sync += joining.eq(1)
                            m.next = "REQUEST"
                        with m.Elif(found.error == RecycleError.NONE):
                            m.d.sync += found.error.eq(RecycleError.JOINED)
                    with m.Case(PoolCommand.REMOVE):
                        with m.If(found.error == RecycleError.NONE):
                            m.d.sync += found.state.eq(BufferState.NONE)
                    with m.Case(PoolCommand.QUERY):
                        with m.If((found.error == RecycleError.NONE) & (found.state == BufferState.OUT)):
                            m.next = "ASK"
            with m.State("TAKE"):
                m.d.comb += take.request.valid.eq(1)
                with m.If(take.request.ready):
                    m.next = "TAKEN"
            with m.State("TAKEN"):
                with m.If(take.answer.strobe):
                    with m.If(take.answer.empty):
                        m.d.sync += found.error.eq(RecycleError.EMPTY)
                    with m.Else():
                        m.d.sync += [
                            found.id.eq(take.answer.id),
                            found.state.eq(BufferState.OUT),
                            found.queue.eq(TAKEN),
                        ]
                    m.next = "DONE"
            with m.State("ASK"):
                m.d.comb += owners.request.valid.eq(1)
                with m.If(owners.request.ready):
                    m.next = "TOLD"
            with m.State("TOLD"):
                with m.If(owners.answer.strobe):
                    with m.If(owners.answer.found):
                        m.d.sync += [
                            found.id.eq(owners.answer.id),
                            found.state.eq(BufferState.OUT),
                            found.queue.eq(owners.answer.owner),
                            found.age.eq(owners.answer.age),
                        ]
                    with m.Else():
                        m.d.sync += found.error.eq(RecycleError.EMPTY)
                    m.next = "DONE"
            with m.State("DONE"):
                refused = (found.error != RecycleError.NONE) & (found.error != RecycleError.EMPTY)
                m.d.comb += self.refused.strobe.eq(refused)
                m.d.sync += self.result[pool].eq(found)
                m.next = "CHOOSE"
        return m
