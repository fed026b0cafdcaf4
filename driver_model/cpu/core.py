# SPDX-License-Identifier: BSD-2-Clause
"""A CPU core: what kernel code is written against."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from driver_model.cpu.profile import Operation, Profile
from driver_model.cpu.scheduler import Task
from driver_model.cpu.softirq import SoftirqVector
from driver_model.cpu.timeline import Timeline
from driver_model.platform import Platform, Timer, check_register_access

if TYPE_CHECKING:
    from driver_model.cpu.noncoherent import CoreCache

LINE = 64  #: bytes of a cache line
MMIO_TIMEOUT = 50_000_000_000  #: picoseconds; PCI Express' default completion timeout reaches up to 50 ms
ALL_ONES = (1 << 64) - 1  #: what a register read of 8 bytes returns that the device refuses

AccessObserver = Callable[["Core", int, int, int, bool], None]


class IrqSave:
    """The region of :meth:`Core.irq_save`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def __enter__(self) -> None:
        self._core.irq_disable()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._core.irq_enable(wait=kind is None)


class Core(Timeline):
    """One core. All of it is plain synchronous code; only the core lets other contexts run, and only when it must wait.

    Kernel code charges what it does by :meth:`spend`, in operations of the cost profile, and touches memory and
    registers only through the core. Each access to memory charges one ``cpu.load`` or ``cpu.store`` per cache line and
    takes effect at :attr:`time`, after its cost. There are three kinds, which cost the same and differ in what they may
    assume:

    - :meth:`load`, :meth:`store`, :meth:`copy` assume nothing: the machine is brought to this core's time first.
    - :meth:`load_owned`, :meth:`store_owned`, :meth:`copy_owned` are for memory that no other party touches now, and
      do not.
    - :meth:`load_latched` is for flags that go one way, and brings them together only when the answer is "not yet".

    Parameters
    ----------
    platform : the machine
    index : number of this core, from 0; of two cores at one time the lower one goes first
    profile : costs of the operations
    alone : no other core shares this machine's memory, so that shared lines need no order between cores
    ddio : the device writes into the last level cache, so that the first touch of what it wrote (``device_line``) hits
        there; otherwise it misses

    Attributes
    ----------
    cache : the core's data cache, on a machine where devices do not see into it (see
        :class:`driver_model.cpu.noncoherent.NonCoherentCore`); None where they do
    """

    cache: CoreCache | None = None

    def __init__(
        self, platform: Platform, index: int, profile: Profile, *, alone: bool = True, ddio: bool = True
    ) -> None:
        if not isinstance(index, int) or isinstance(index, bool):
            raise TypeError(f"index must be an integer, not {index!r}")
        if not 0 <= index < 1024:
            raise ValueError(f"index must be in 0..1023, not {index!r}")
        super().__init__(platform, index, profile)
        self.alone = alone
        self.access_observer: AccessObserver | None = None  #: told (core, time, address, length, is_write)
        self.mmio_read_errors = 0  #: register reads that the device refused
        self.device_line = self.op("llc.hit" if ddio else "cache.miss")  #: first touch of a line the device wrote
        self.line_transfer = self.op("line.transfer")  #: a shared line comes from another core
        self.spin_lock = self.op("spin.lock")
        self.spin_unlock = self.op("spin.unlock")
        self._load = self.op("cpu.load")
        self._store = self.op("cpu.store")
        self._mmio_write = self.op("mmio.write")
        self._mmio_read = self.op("mmio.read")
        self._irq_depth = 0
        self._read = platform.read
        self._write = platform.write

    # Memory

    def load(self, address: int, length: int) -> bytes:
        """Bytes of memory at this core's time."""
        self.spend(self._load, ((address & LINE - 1) + length + LINE - 1) // LINE)
        self.sync()
        return self._loaded(address, length)

    def store(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Store at this core's time: the hardware sees it from its next edge on, not before and not later."""
        self.spend(self._store, ((address & LINE - 1) + len(data) + LINE - 1) // LINE)
        self.sync()
        self._stored(address, data)

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy memory, as :meth:`load` and :meth:`store` of the whole range: both at the end of the copy's cost."""
        self.spend(self._load, ((source & LINE - 1) + length + LINE - 1) // LINE)
        self.spend(self._store, ((target & LINE - 1) + length + LINE - 1) // LINE)
        self.sync()
        self._stored(target, self._loaded(source, length))

    def load_owned(self, address: int, length: int) -> bytes:
        """Bytes of memory that no other party writes between ``platform.now`` and this core's time.

        For buffers that the CPU owns, and for what a latched flag has published. Then the bytes are those of
        :meth:`load`, without its wait.
        """
        self.spend(self._load, ((address & LINE - 1) + length + LINE - 1) // LINE)
        return self._loaded(address, length)

    def store_owned(self, address: int, data: bytes | bytearray | memoryview, op: Operation | None = None) -> None:
        """Store to memory that no other party reads before this core next publishes (a doorbell, a :meth:`store`).

        For buffers that the CPU owns, and for ring slots beyond the published index. The bytes land at
        ``platform.now``, earlier than this core's time, where nobody can tell. Charges ``op``, ``cpu.store`` by
        default, for each line.
        """
        self.spend(self._store if op is None else op, ((address & LINE - 1) + len(data) + LINE - 1) // LINE)
        self._stored(address, data)

    def copy_owned(self, target: int, source: int, length: int) -> None:
        """Copy memory that is this core's alone, at ``cpu.copy_line`` for each line of the source."""
        self.spend(self.op("cpu.copy_line"), ((source & LINE - 1) + length + LINE - 1) // LINE)
        self._stored(target, self._loaded(source, length))

    def load_latched(self, address: int, length: int, ready: Callable[[bytes], object]) -> bytes:
        """Bytes that, once ``ready(bytes)`` is true, cannot change before this core publishes an index.

        For a completion and its phase bit: if it is there at ``platform.now``, it is there, and the same, at this
        core's time. If it is not, both are brought together and it is looked at again. The result and the time are
        those of :meth:`load`.
        """
        self.spend(self._load, ((address & LINE - 1) + length + LINE - 1) // LINE)
        data = self._read(address, length)
        if not ready(data):
            self.sync()
            data = self._read(address, length)
        if self.access_observer is not None:
            self.access_observer(self, self.time, address, length, False)
        return data

    def move_owned(self, target: int, source: int, length: int) -> None:
        """Copy memory that no other party touches now, both sides, for the kernel's own machinery (bounce buffers):
        it charges nothing and no observer judges it, the caller answers for both."""
        self._write(target, self._read(source, length))

    def _loaded(self, address: int, length: int) -> bytes:
        if self.access_observer is not None:
            self.access_observer(self, self.time, address, length, False)
        return self._read(address, length)

    def _stored(self, address: int, data: bytes | bytearray | memoryview) -> None:
        if self.access_observer is not None:
            self.access_observer(self, self.time, address, len(data), True)
        self._write(address, data)

    # Registers

    def mmio_write(self, offset: int, value: int, size: int = 8, op: Operation | None = None) -> None:
        """A posted register write of 8 or 4 bytes: charges ``op``, ``mmio.write`` by default, then leaves the CPU; it
        is not waited for."""
        self.spend(self._mmio_write if op is None else op)
        self.sync()
        if self._log is not None:
            self._log.record(self.time, self.index, self.context, "mmio", f"write {offset:#x}")
        self.platform.mmio_write(offset, value, size)

    def mmio_read(self, offset: int, size: int = 8) -> int:
        """A register read of 8 or 4 bytes: charges ``mmio.read``, and waits for its completion; interrupts come in
        meanwhile.

        A read that the device refuses returns all ones and counts in :attr:`mmio_read_errors`. Raises ``TimeoutError``
        after 50 ms without completion, ``ValueError`` for another size or an offset that is no multiple of it.
        """
        check_register_access(offset, size)
        self.spend(self._mmio_read)
        self.sync()
        replies: list[tuple[int, bool]] = []

        def done(value: int, error: bool) -> None:
            replies.append((value, error))
            self.kick()

        self.platform.mmio_read(offset & -8, done)
        if not self.spin_until(lambda: replies, MMIO_TIMEOUT):
            raise TimeoutError(f"Register read at {offset:#x} got no completion within {MMIO_TIMEOUT // 10**9} ms")
        value, error = replies[0]
        if error:
            self.mmio_read_errors += 1
            value = ALL_ONES
        return value >> 8 * (offset & 7) & (1 << 8 * size) - 1

    # Waiting

    def spin_until(self, woken: Callable[[], object], limit: int) -> bool:
        """Keep the core until ``woken`` is true, True, or for ``limit`` picoseconds, False; interrupts come in.

        Whoever makes it true calls :meth:`kick` then.
        """
        self.preempt_count += 1
        self.sync()
        end = self.time + limit
        self.time = end
        self.bring_together(woken)
        self.preempt_count -= 1
        self.time = self.platform.now
        return bool(woken())

    def poll_until(
        self, start: int, stop: int, ready: Callable[[bytes], object], deadline: int, poll: Operation
    ) -> bool:
        """Look at memory ``start..stop-1`` every ``poll.ps`` until ``ready(bytes)``, True, or ``deadline``, False.

        The first look is at this core's time, each further one a poll later, the last one at or after the deadline.
        Time and count of ``poll`` are those of a loop of :meth:`spend` and look, and interrupts and other processes
        come in as they would; but only a write of the device into the range costs any Python.
        """
        if poll.ps <= 0:
            raise ValueError(f"Operation {poll.name} must take time to poll with, not {poll.ps!r} ps")
        self.sync()
        while not ready(self._loaded(start, stop - start)):
            left = -(-(deadline - self.time) // poll.ps)
            if left <= 0:
                return False
            self._poll_away(start, stop, poll, left)
        return True

    def _poll_away(self, start: int, stop: int, poll: Operation, polls: int) -> None:
        """Spend polls, up to the first after which another look may find something new."""
        hits: list[None] = []

        def hit() -> None:
            hits.append(None)
            self.kick()

        watch = self.platform.watch(start, stop, hit)
        first, end = self.time, self.time + polls * poll.ps
        self.time = end
        self.bring_together(lambda: hits or self.time != end)
        watch.cancel()
        # What came in between moved the polls after it, and with it they may reach the deadline earlier.
        first += self.time - end
        spent = max(1, -(-(self.platform.now - first) // poll.ps))
        poll.count += spent
        self.time = first + spent * poll.ps
        self.bring_together()

    def sleep_until(self, time: int) -> None:
        """Let the current process sleep until a time (an hrtimer's interrupt wakes it)."""
        self.sync()
        if time <= self.time:
            return
        task = self.scheduler.current
        expired: list[None] = []

        def expire() -> None:
            expired.append(None)
            self.scheduler.wake(task)

        timer: Timer = self.platform.at(time, lambda: self.interrupt(expire))
        while not expired:
            self.scheduler.sleep()
        timer.cancel()

    def preempt_disable(self) -> None:
        """The current process keeps the core until :meth:`preempt_enable`; regions nest."""
        if self.preemptible:
            self.sync()
        self.preempt_count += 1

    def preempt_enable(self) -> None:
        """End of a region that keeps the core."""
        if not self.preempt_count:
            raise RuntimeError("preemption enabled more often than disabled")
        outermost = self.preempt_count == 1 and self.context_is_process
        if outermost:
            self.bring_together()
        self.preempt_count -= 1
        if outermost:
            self.bring_together()

    def cond_resched(self) -> None:
        """Let another process run if one should."""
        self.bring_together()

    def spawn(self, name: str, function: Callable[[], Any], *, background: bool = False) -> Task:
        """Start a process on this core: it runs ``function()``, from now on, in fair competition with the others, or
        where it is ``background`` only while none of them wants to."""
        return self.scheduler.spawn(name, function, background=background)

    # Interrupts

    def request_irq(self, vector: int, handler: Callable[[], object]) -> None:
        """Run ``handler`` on this core, as a hardirq, whenever an interrupt message with this vector arrives."""
        self.platform.on_interrupt(vector, lambda: self.interrupt(handler))

    def irq_save(self) -> IrqSave:
        """Region without interrupts (``local_irq_save`` to ``local_irq_restore``); regions nest.

        What arrives inside runs at its end.
        """
        return IrqSave(self)

    def irq_disable(self) -> None:
        """Open a region without interrupts."""
        if not self._irq_depth and not self.in_hardirq:
            if not self.softirq.active:
                self.sync()
            self._irqs_off_since = self.time
        self._irq_depth += 1

    def irq_enable(self, *, wait: bool = True) -> None:
        """Close a region without interrupts; ``wait=False`` only forgets it, where an exception tears it down."""
        if not self._irq_depth:
            raise RuntimeError("interrupts enabled more often than disabled")
        self._irq_depth -= 1
        if not self._irq_depth and not self.in_hardirq:
            if wait:
                self.bring_together()
            self._irqs_off_since = None
            if wait:
                self.sync()

    def raise_softirq(self, vector: SoftirqVector) -> None:
        """Mark a softirq pending: see :class:`driver_model.cpu.softirq.Softirq`."""
        self.softirq.raise_(vector)
