# SPDX-License-Identifier: BSD-2-Clause
"""What software did wrong with each pool: how often, and the first of it."""

from amaranth import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.pools import RecycleError, RecycleSource
from hw.abi.rings import BUFFER_ID_BITS
from hw.config import NicConfig
from hw.nic.recycle.interfaces import PoolWrite, Verdict

COUNT_BITS = 32
QUEUE_BITS = 8
NO_QUEUE = 255  #: of a queue's number, where registers tell of one


class Offender(data.Struct):
    """What software reads in MISUSE."""

    valid: 1
    reserved: 3
    error: RecycleError
    source: RecycleSource
    reserved_high: 5
    id: BUFFER_ID_BITS
    queue: QUEUE_BITS


class RefusedCommand(wiring.Signature):
    """A command of a pool was refused: ``strobe`` for one cycle with its ``id`` and the ``error``."""

    def __init__(self, config: NicConfig):
        super().__init__(
            {"strobe": Out(1), "pool": Out(range(config.pools)), "id": Out(BUFFER_ID_BITS), "error": Out(RecycleError)}
        )


class MisuseRecord(wiring.Component):
    """Counts what was refused, and keeps the first offender of each pool. Listens to ACKNOWLEDGE.

    A refused claim counts for the pool that it names, whoever made it; pool 0 answers for pools that do not exist. A
    claim and a command of one cycle both count, and the claim is the first of them. Nothing is missed, with one of each
    in every cycle; counts are modulo 1 << 32.

    Outputs tell of an ACKNOWLEDGE in the next cycle, of all else in that after it. So what is refused in the cycle
    before an ACKNOWLEDGE is the next offender already; what is in that of ``clear`` is forgotten.

    Ports
    -----
    write : In
        Accepted register writes.
    verdict : In
        All that became of claims; granted ones do not count.
    command : In
        Refused commands.
    clear : In
        Bit per pool, for one cycle: nothing was refused so far.
    offender : Out
        Register MISUSE of each pool, 0 while there is none.
    refused : Out
        MISUSE_COUNT.refused of each pool.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        pools = config.pools
        super().__init__(
            {
                "write": In(PoolWrite(config)),
                "verdict": In(Verdict(config)),
                "command": In(RefusedCommand(config)),
                "clear": In(pools),
                "offender": Out(data.ArrayLayout(Offender, pools)),
                "refused": Out(data.ArrayLayout(COUNT_BITS, pools)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pools = self._config.pools
        claim, command = self.verdict.claim, self.command
        claimed, commanded = Signal(Offender), Signal(Offender)
        m.d.sync += [
            claimed.valid.eq(1),
            claimed.error.eq(self.verdict.error),
            claimed.source.eq(claim.source),
            claimed.id.eq(claim.id),
            claimed.queue.eq(Mux(claim.source == RecycleSource.RETURN, NO_QUEUE, claim.queue)),
            commanded.valid.eq(1),
            commanded.error.eq(command.error),
            commanded.source.eq(RecycleSource.COMMAND),
            commanded.id.eq(command.id),
            commanded.queue.eq(NO_QUEUE),
        ]
        # A command that is refused comes once, whether or not the tracker had a verdict about it too.
        refused = self.verdict.strobe & (self.verdict.error != RecycleError.NONE)
        refused &= claim.source != RecycleSource.COMMAND
        answers = Signal(range(pools))
        m.d.comb += answers.eq(Mux(claim.pool < pools, claim.pool, 0))
        of_claim, of_command, clear = Signal(pools), Signal(pools), Signal(pools)
        m.d.sync += [
            of_claim.eq(refused << answers),
            of_command.eq(command.strobe << command.pool),
            clear.eq(self.clear),
        ]

        acknowledged = self.write.at.acknowledge & self.write.data[0]
        for pool in range(pools):
            first, count = self.offender[pool], self.refused[pool]
            with m.If((acknowledged & (self.write.pool == pool)) | ~first.valid):
                m.d.sync += first.eq(Mux(of_claim[pool], claimed, Mux(of_command[pool], commanded, 0)))
            m.d.sync += count.eq(count + of_claim[pool] + of_command[pool])
            with m.If(clear[pool]):
                m.d.sync += [first.eq(0), count.eq(0)]
        return m
