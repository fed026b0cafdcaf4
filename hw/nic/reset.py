# SPDX-License-Identifier: BSD-2-Clause
"""Function reset: everything is drained, then the NIC is as after power-on."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

#: More than any frame takes from the end of its reads, or any message from its cause, to where `quiet` knows of it.
QUIET_CYCLES = 16


class FunctionReset(wiring.Component):
    """Sequencer of CONTROL.reset.

    From the cycle after ``request`` on, ``resetting`` keeps frames out and stops all queues. When all are ``drained``,
    no new register access begins (``hold``, from the third cycle of ``resetting`` on). Two cycles after the last of
    :data:`QUIET_CYCLES` in a row in which nothing was on any interface, or gathered for it (``quiet``), comes the one
    of ``reset``, which resets every other block on its clock edge. It is a register with a register before it, as it
    has far to go. A host that never answers, a MAC that never takes the rest of a frame, or a host that never takes an
    interrupt, keeps the NIC resetting: nothing is ever cut off, and frames already gathered are sent.

    **Late starts.** A queue is started in the cycle of ``request`` at the latest, as none is while ``resetting``.
    ``drained`` comes a cycle late and tells of that one in the second cycle of ``resetting``: so the first does not
    count. (The register block is not even that fast, with at least five cycles from a start to the write of
    CONTROL.reset.)

    ``power_on`` gives ``reset`` two cycles later, whatever else is happening: for who has no reset of the clock domain.

    Ports
    -----
    power_on : In
        Reset at once.
    request : In
        CONTROL.reset was written.
    drained : In
        In the cycle before, no queue had DMA planned or under way, and none was enabled.
    quiet : In
        No transfer is offered or unfinished on the register interface, the interrupt stream and the stream to the wire,
        and no gathered frame waits for that. While ``hold`` no message is put up.
    closing : Out
        The reset is at most two cycles away, unless ``quiet`` falls: what must not be lost is not taken any more.
    resetting, hold, reset : Out
    """

    power_on: In(1)
    request: In(1)
    drained: In(1)
    quiet: In(1)
    resetting: Out(1)
    hold: Out(1)
    closing: Out(1)
    reset: Out(1)

    def elaborate(self, platform):
        m = Module()
        still = Signal(range(QUIET_CYCLES))
        stopping = Signal()  # since the cycle before
        with m.If(self.request):
            m.d.sync += self.resetting.eq(1)
        with m.If(self.reset):
            m.d.sync += [self.resetting.eq(0), stopping.eq(0), self.hold.eq(0), still.eq(0)]
        with m.Else():
            m.d.sync += [stopping.eq(self.resetting), self.hold.eq(stopping & self.drained)]
            m.d.sync += still.eq(Mux(self.hold & self.quiet, still + 1, 0))
        due, last = Signal(), Signal()
        m.d.comb += [last.eq(still == QUIET_CYCLES - 1), self.closing.eq(last | due | self.reset)]
        m.d.sync += [due.eq(self.power_on | (self.quiet & last)), self.reset.eq(due)]
        return m
