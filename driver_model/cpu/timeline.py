# SPDX-License-Identifier: BSD-2-Clause
"""A core's own time, and how it is kept true to the machine's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from greenlet import GreenletExit, getcurrent, greenlet

from driver_model.cpu.profile import Operation, Profile
from driver_model.cpu.scheduler import Scheduler
from driver_model.cpu.softirq import Softirq
from driver_model.platform import Platform

if TYPE_CHECKING:
    from driver_model.events import EventLog


class Timeline:
    """Spends time, brings the machine up to it, and lets interrupts and other processes in at their own time.

    Software runs ahead of the machine: :meth:`spend` only adds to :attr:`time`. Before anything that another party can
    see, :meth:`sync` brings the machine up to it. What arrives on the way splits the interval that is already spent: an
    interrupt at *ti* in *t0..t1* runs its handler (and what the handler raised) from *ti* on, on the stack of the
    context that it interrupts, and the rest of the interval moves behind it. So a handler sees the *time* of its
    arrival, but the Python state of the interrupted code as of *t1*: code between two syncs is atomic in state, not in
    time.

    Entering or leaving a context (hardirq, softirq, a process, a region with interrupts off) brings both together, so
    that an interrupt always meets the context that was running when it arrived.

    Each context is a greenlet. A context that must wait leaves to the greenlet that runs the event kernel, and is
    resumed by an event. At one time, cores run in the order of their index.
    """

    def __init__(self, platform: Platform, index: int, profile: Profile) -> None:
        self.platform = platform
        self.index = index
        self.profile = profile
        self.time = platform.now  #: picoseconds: how far this core has spent; never before ``platform.now``
        self._idle_ps = 0
        self.hardirq_ps = 0  #: time in interrupt handlers, entry and exit included
        self.interrupted_ps = 0  #: time that interrupts, and softirqs run at their exit, took from what they met
        self.in_hardirq = False
        self.preempt_count = 0  #: above 0 the scheduler may not take the core away from the current process
        self._irqs_off_since: int | None = None
        self._pending: deque[Callable[[], object]] = deque()
        self._parked: greenlet | None = None
        self._kicked = False
        self._down = False
        self._hub = getcurrent()
        self._log: EventLog | None = None
        self._operations: dict[str, Operation] = {}
        self._irq_entry = self.op("irq.entry")
        self._irq_exit = self.op("irq.exit")
        self.softirq = Softirq(self)
        self.scheduler = Scheduler(self)
        self._parked = self.scheduler.idle_context

    def op(self, name: str) -> Operation:
        """The operation of that name: its cost from the profile and, counted by this core, how often it happened.

        Resolve once, outside of loops. Raises ``KeyError`` for a name that the profile does not have.
        """
        operation = self._operations.get(name)
        if operation is None:
            operation = self._operations[name] = Operation(name, self.profile.ps(name))
        return operation

    @property
    def operations(self) -> Iterable[Operation]:
        """Every operation that this core resolved, in the order of their names."""
        return [self._operations[name] for name in sorted(self._operations)]

    def spend(self, op: Operation, times: int = 1) -> None:
        """Charge an operation and count it. Nothing else happens: the core only runs further ahead."""
        op.count += times
        self.time += op.ps * times

    @property
    def reached(self) -> int:
        """Up to when this core has run: its own time, unless it waits for the machine to come up to that."""
        return self.time if self._parked is None else self.platform.now

    @property
    def idle_ps(self) -> int:
        """Picoseconds without anything to run, up to now."""
        return self._idle_ps + (max(0, self.platform.now - self.time) if self.scheduler.idle else 0)

    @property
    def context(self) -> str:
        """What runs: ``hardirq``, ``softirq``, or the name of the process (``idle`` without one)."""
        if self.in_hardirq:
            return "hardirq"
        return "softirq" if self.softirq.active else self.scheduler.current.name

    @property
    def context_is_process(self) -> bool:
        """A process runs, with interrupts and softirqs on."""
        return not (self.in_hardirq or self.softirq.disabled or self._irqs_off_since is not None)

    @property
    def preemptible(self) -> bool:
        """A process runs, and the scheduler may take the core away from it."""
        return not self.preempt_count and self.context_is_process

    @property
    def log(self) -> EventLog | None:
        """Where this core's events go; None, and free of cost, by default. Set it before code resolves ``spend``."""
        return self._log

    @log.setter
    def log(self, log: EventLog | None) -> None:
        self._log = log
        if log is None:
            self.__dict__.pop("spend", None)
        else:
            self.__dict__["spend"] = self._spend_logged

    def _spend_logged(self, op: Operation, times: int = 1) -> None:
        if self._log is not None:
            self._log.record(self.time, self.index, self.context, "spend", op.name, op.ps * times)
        op.count += times
        self.time += op.ps * times

    def note(self, kind: str, function: str, queue: int, buffer: int, buffer_id: int | None = None) -> None:
        """Log what happened to a buffer, as of now and of what runs, if the log is on."""
        if self._log is not None:
            self._log.record(
                self.time, self.index, self.context, kind, function, queue=queue, buffer=buffer, buffer_id=buffer_id
            )

    def sync(self) -> None:
        """Bring the machine to this core's time: every edge and event up to it has happened, interrupts included."""
        if self.platform.now < self.time or self._pending or self.scheduler.need_resched:
            self.bring_together()

    def bring_together(self, woken: Callable[[], object] | None = None) -> None:
        """Let the machine run up to :attr:`time`; where ``woken`` is given, only until it is true.

        Interrupts that arrive on the way, and processes that may take the core away, move :attr:`time`.
        """
        if self._down:
            raise GreenletExit
        platform = self.platform
        scheduler = self.scheduler
        while True:
            now = platform.now
            if self._pending and self._irqs_on(now):
                self._take_interrupt(now)
                continue
            preemptible = self.preemptible
            if preemptible and scheduler.must_yield(now):
                rest = self.time - now
                self.time = now
                scheduler.schedule()
                self.time += rest
                continue
            if now >= self.time or (woken is not None and woken()):
                return
            until = self.time
            if preemptible and scheduler.slice_end is not None:
                until = min(until, scheduler.slice_end)
            if platform.advance(until) or (woken is not None and woken()):
                continue
            now = platform.now
            if now < until and not (self._pending and self._irqs_on(now)):
                self._park(until)

    def _irqs_on(self, now: int) -> bool:
        return not self.in_hardirq and (self._irqs_off_since is None or now < self._irqs_off_since)

    def _take_interrupt(self, now: int) -> None:
        handler = self._pending.popleft()
        rest = self.time - now
        self.time = now
        self.in_hardirq = True
        self.spend(self._irq_entry)
        handler()
        self.spend(self._irq_exit)
        self.bring_together()
        self.in_hardirq = False
        self.hardirq_ps += self.time - now
        if self.softirq.pending and not self.softirq.disabled:
            self.softirq.run()
        took = self.time - now
        self.time += rest
        if not self.softirq.active:
            self.interrupted_ps += took
        if self._irqs_off_since is not None:
            self._irqs_off_since += took

    def interrupt(self, handler: Callable[[], object]) -> None:
        """An interrupt arrives at this core now (``platform.now``); its handler runs at once unless they are off.

        For whoever brings interrupts: the platform's callbacks, timers, other cores. May be called from any greenlet.
        """
        self._pending.append(handler)
        self.kick()

    def kick(self) -> None:
        """Make a context that waits look again at what it waits for, at ``platform.now``."""
        if self._parked is not None and not self._kicked:
            self._kicked = True
            self.platform.at(self.platform.now, self._resume, self.index + 1)

    def _park(self, until: int | None) -> None:
        """Leave to the event kernel until a time or a kick, whichever comes first; it may also come for nothing."""
        timer = None if until is None else self.platform.at(until, self._resume, self.index + 1)
        self._parked = getcurrent()
        self._hub.switch()
        if timer is not None:
            timer.cancel()

    def _resume(self) -> None:
        self._kicked = False
        context, self._parked = self._parked, None
        if context is not None:
            self._hub = context.parent = getcurrent()
            context.switch()

    def switch_to(self, context: greenlet) -> None:
        """Continue in another context of this core; returns when one switches back."""
        context.parent = self._hub
        context.switch()

    def finish_into(self, context: greenlet) -> None:
        """Let another context of this core continue when the present one returns from its outermost function."""
        context.parent = self._hub
        getcurrent().parent = context

    def shutdown(self) -> None:
        """End every context where it stands, after the run; otherwise suspended contexts hold what they use for ever.

        What they still do on their way out takes no time: it ends at the first thing that another party could see.
        """
        self._down = True
        self._parked = None
        self.scheduler.need_resched = True  # so that every sync looks
        for context in self.scheduler.contexts():
            if not context.dead:
                context.parent = getcurrent()
                context.throw(GreenletExit)

    def idle_loop(self) -> None:
        """What a core does without processes: wait, and let interrupts in. Idle polls: it costs nothing to leave."""
        while True:
            self._idle_ps += self.platform.now - self.time
            self.time = self.platform.now
            if self._pending:
                self.bring_together()
            elif self.scheduler.runnable:
                self.scheduler.schedule()
            else:
                self._park(None)
