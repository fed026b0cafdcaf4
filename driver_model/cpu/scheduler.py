# SPDX-License-Identifier: BSD-2-Clause
"""Processes, and the fair scheduler that shares a core among them (Linux ``kernel/sched/fair.c`` in its CFS form)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

if TYPE_CHECKING:
    from driver_model.cpu.timeline import Timeline

# Linux' defaults on one CPU (sysctl_sched_latency, _min_granularity, _wakeup_granularity), in picoseconds.
LATENCY = 6_000_000_000
MIN_GRANULARITY = 750_000_000
WAKEUP_GRANULARITY = 1_000_000_000


class TaskState(Enum):
    """What a process does."""

    RUNNABLE = "runnable"
    SLEEPING = "sleeping"
    DEAD = "dead"


class Task:
    """A process of one core; made by :meth:`driver_model.cpu.core.Core.spawn`."""

    def __init__(
        self, scheduler: Scheduler, name: str, function: Callable[[], Any], vruntime: int, *, background: bool = False
    ) -> None:
        self.name = name
        self.background = background  #: it runs only while no other process wants to (``SCHED_IDLE``)
        self.state = TaskState.RUNNABLE
        self.vruntime = vruntime  #: picoseconds run, without interrupts; a wake-up brings it near the others'
        self.result: Any = None  #: what the function returned
        self.greenlet = greenlet(self._run)
        self._scheduler = scheduler
        self._function = function

    @property
    def done(self) -> bool:
        """The function returned."""
        return self.state is TaskState.DEAD

    def _run(self, *_: object) -> None:
        self.result = self._function()
        self._scheduler.exit()


class Scheduler:
    """The processes of one core.

    A process in the background lets any other run at once, and only shares what is left with its like.

    The process that ran least runs; it yields when it sleeps, when its share of the latency is over and another is
    runnable, or when a process wakes up that ran less by more than the wake-up granularity. All processes have one
    weight. A process never moves to another core.
    """

    def __init__(self, core: Timeline) -> None:
        self._core = core
        self._switch = core.op("context.switch")
        self._wake = core.op("task.wake")
        self._idle = Task(self, "idle", core.idle_loop, 0)
        self._started = 0
        self._interrupted = 0
        self._min_vruntime = 0
        self._tasks: list[Task] = []
        self.current = self._idle
        self.runnable: list[Task] = []  #: runnable processes besides the current one, in order of arrival
        self.need_resched = False  #: a process woke up that should run now
        self.slice_end: int | None = None  #: core time at which the current process must let another one run

    @property
    def idle(self) -> bool:
        """The core has no process to run."""
        return self.current is self._idle

    @property
    def idle_context(self) -> greenlet:
        """The context in which a core starts, and in which it waits when it has no process to run."""
        return self._idle.greenlet

    def spawn(self, name: str, function: Callable[[], Any], *, background: bool = False) -> Task:
        """A new runnable process."""
        self._account()
        task = Task(self, name, function, self._min_vruntime, background=background)
        self._tasks.append(task)
        self._enqueue(task)
        return task

    def wake(self, task: Task) -> bool:
        """Make a sleeping process of this core runnable; False if it was not asleep. Costs a wake-up."""
        if task.state is not TaskState.SLEEPING:
            return False
        self._core.spend(self._wake)
        task.state = TaskState.RUNNABLE
        self._account()
        task.vruntime = max(task.vruntime, self._min_vruntime - LATENCY // 2)
        self._enqueue(task)
        return True

    def sleep(self) -> None:
        """Take the current process off the core until it is woken."""
        self.current.state = TaskState.SLEEPING
        self.schedule()

    def exit(self) -> None:
        """End the current process."""
        self._core.sync()
        self.current.state = TaskState.DEAD
        self._tasks.remove(self.current)
        self.schedule()

    def contexts(self) -> list[greenlet]:
        """The contexts of every process that did not end, or is about to leave the core, and the idle one."""
        tasks = dict.fromkeys([*self._tasks, self.current, self._idle])
        return [task.greenlet for task in tasks]

    def must_yield(self, now: int) -> bool:
        """Whether the current process has to let another one run now."""
        if not self.runnable:
            return False
        return self.need_resched or self.idle or (self.slice_end is not None and now >= self.slice_end)

    def schedule(self) -> None:
        """Let the process that ran least go on; returns when the caller is chosen again, or is to end.

        If that is at once, it costs nothing; otherwise a switch of context.
        """
        core, previous = self._core, self.current
        self._account()
        self.need_resched = False
        if previous.state is TaskState.RUNNABLE and previous is not self._idle:
            self.runnable.append(previous)
        if self.runnable != [previous]:
            core.preempt_count += 1
            core.spend(self._switch)
            core.bring_together()
            core.preempt_count -= 1
            self._account()
        following = min(self.runnable, key=lambda task: (task.background, task.vruntime), default=self._idle)
        if following is not self._idle:
            self.runnable.remove(following)
        self.current = following
        self._set_slice()
        if following is not previous:
            if core.log is not None:
                core.log.record(core.time, core.index, following.name, "switch", "schedule")
            if previous.state is TaskState.DEAD:
                core.finish_into(following.greenlet)
            else:
                core.switch_to(following.greenlet)

    def _enqueue(self, task: Task) -> None:
        self.runnable.append(task)
        current = self.current
        ahead = current.background or current.vruntime - task.vruntime > WAKEUP_GRANULARITY
        if ahead and not self.idle and not task.background:
            self.need_resched = True
        if self.slice_end is None:
            self._set_slice()
        self._core.kick()  # where another core made it: one that waits for its own time has to look at it

    def _account(self) -> None:
        core = self._core
        reached = core.reached
        ran = reached - self._started - (core.interrupted_ps - self._interrupted)
        self._started, self._interrupted = reached, core.interrupted_ps
        if not self.idle:
            self.current.vruntime += ran
            others = min((task.vruntime for task in self.runnable), default=self.current.vruntime)
            self._min_vruntime = max(self._min_vruntime, min(self.current.vruntime, others))

    def _set_slice(self) -> None:
        """The current process's share, from when it got the core or company."""
        if self.runnable and not self.idle:
            share = max(LATENCY // (len(self.runnable) + 1), MIN_GRANULARITY)
            self.slice_end = self._core.reached + share
        else:
            self.slice_end = None


class WaitQueue:
    """Processes that wait for a condition, woken in the order in which they came (Linux ``wait_queue_head``)."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Timeline, Task]] = deque()

    def wait(self, core: Timeline, condition: Callable[[], object]) -> None:
        """Let the current process sleep until a wake-up finds the condition true (``wait_event``).

        Call it from a process, with interrupts on and no lock held; the condition must not wait itself.
        """
        core.sync()
        while not condition():
            entry = (core, core.scheduler.current)
            self._waiting.append(entry)
            core.scheduler.sleep()
            if entry in self._waiting:
                self._waiting.remove(entry)

    def wake_up(self, by: Timeline, count: int | None = None) -> None:
        """Wake up to ``count`` of the waiting processes, or all; ``by`` is the core that runs this.

        A process of another core is woken by an interrupt to that core, sent at this core's time.
        """
        most = len(self._waiting) if count is None else min(count, len(self._waiting))
        # All at once: while this core waits for its time below, another one may wake the others.
        for core, task in [self._waiting.popleft() for _ in range(most)]:
            if core is by:
                core.scheduler.wake(task)
            else:
                by.sync()
                core.interrupt(partial(core.scheduler.wake, task))
        if by.scheduler.need_resched:
            by.sync()
