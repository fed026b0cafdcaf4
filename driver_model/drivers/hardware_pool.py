# SPDX-License-Identifier: BSD-2-Clause
"""The driver's handle of a pool of buffers that recycle in the NIC."""

from collections.abc import Callable, Sequence
from typing import Any

from driver_model.cpu.core import ALL_ONES, Core
from driver_model.drivers.device import POLL_STEP_PS, DeviceError
from driver_model.drivers.pool_report import WHY, BufferReport, MisuseReport, PoolCounts, PoolError
from hw.abi.pools import (
    IDS_PER_RETURN,
    MAX_POOL_BUFFERS,
    BufferState,
    PoolCommand,
    PoolState,
    RecycleError,
    RecycleSource,
)
from hw.abi.registers import RegisterMap

POOL_TIMEOUT_PS = 10**10  #: for a pool to be enabled or drained, and for a command
ID_BITS = 16
_SHIFTS = tuple(range(0, ID_BITS * IDS_PER_RETURN, ID_BITS))


class HardwarePool:
    """One pool of the NIC. :mod:`hw.abi.pools` tells what a pool is.

    Whatever waits for the device does so for :data:`POOL_TIMEOUT_PS` at most, then raises
    :class:`~driver_model.drivers.device.DeviceError`; a command that the device refuses raises :class:`PoolError`.
    Commands are given by one context at a time; buffers are given back, and registers read, from any.

    Costs: those of the register accesses, where a write that gives buffers back is ``recycle.return``, and
    ``recycle.batch`` for each id that is put into the batch.

    Parameters
    ----------
    core : the core that uses it
    registers : the device's register map
    pool : its number
    ids : buffer ids of each pool
    """

    def __init__(self, core: Core, registers: RegisterMap, pool: int, ids: int) -> None:
        if not 1 <= ids <= MAX_POOL_BUFFERS:
            raise ValueError(f"A pool has 1..{MAX_POOL_BUFFERS} ids, not {ids!r}")
        self.core = core
        self.pool = pool
        self.ids = ids
        self.returned = 0  #: ids given back
        self.return_writes = 0  #: register writes that took
        self.resume: int | None = None  #: a closed loop opens when no more are outstanding; None: without a limit
        self._registers = registers.pool
        self._at = {name: registers.address(name, pool=pool) for name in registers.pool}
        self._batch: list[int] = []
        self._returns = tuple(self._at[f"return{count}"] for count in range(1, IDS_PER_RETURN + 1))
        self._op_batch = core.op("recycle.batch")
        self._op_return = core.op("recycle.return")
        loop = registers.pool["loop"].fields
        self._loop = {"track": 0, "close": 0, "window": loop["window"].reset, "slack": loop["slack"].reset}
        self._fixed: int | None = None  # where the loop opens again, if it does not track

    # Lifecycle

    def enable(self, *, lifo: bool = False) -> None:
        """Make it an empty pool, which buffers can join, without a limit, a loop or a bound, be it of who had it
        before; ``lifo``: what came back last goes first."""
        self._batch.clear()
        self.set_limit(0)
        self._change_loop(open=1, track=0, close=0)
        self.set_overdue_bound(0)
        self._write("control", enable=1, lifo=lifo)
        self._wait_state(PoolState.ENABLED)

    def disable(self) -> None:
        """Drain it: no buffer goes to RX any more, and when none is out or to be sent, the device forgets all. Those
        that software has must be removed first, and the queues stopped."""
        self.flush()
        self._write("control", enable=0)
        self._wait_state(PoolState.DISABLED)

    # Buffers

    def join(self, buffer_id: int, dma_address: int, length: int) -> None:
        """A buffer joins, and is the NIC's at once."""
        self._write("buffer_address", address=dma_address)
        self._done(self._command(PoolCommand.JOIN, buffer_id, length), f"buffer {buffer_id} to join")

    def remove(self, buffer_id: int) -> None:
        """A buffer that is out is none of the pool any more."""
        self._done(self._command(PoolCommand.REMOVE, buffer_id), f"buffer {buffer_id} to be removed")

    def take(self) -> int | None:
        """The id of a free buffer, which is out from now on; None if none is free."""
        error, report = self._command(PoolCommand.TAKE)
        if error is RecycleError.EMPTY:
            return None
        self._done((error, report), "a buffer to be taken")
        return report.id

    def query(self, buffer_id: int) -> BufferReport:
        """Where a buffer is; state NONE where no buffer of that id has joined."""
        error, report = self._command(PoolCommand.QUERY, buffer_id)
        if error is RecycleError.UNKNOWN:
            return report._replace(state=BufferState(BufferState.NONE))
        self._done((error, report), f"buffer {buffer_id} to be looked at")
        return report

    def overdue(self) -> list[BufferReport]:
        """Every buffer that has been out for longer than the bound of :meth:`set_overdue_bound`, by id; what waits is
        handed back before."""
        found: list[BufferReport] = []
        self.settle()
        buffer_id = 0
        while buffer_id < self.ids:
            error, report = self._command(PoolCommand.OVERDUE, buffer_id)
            if error is RecycleError.EMPTY:
                break
            self._done((error, report), f"overdue buffers from {buffer_id} on to be found")
            if report.id < buffer_id:
                raise DeviceError(f"Pool {self.pool} found buffer {report.id} among those from {buffer_id} on")
            found.append(report)
            buffer_id = report.id + 1
        return found

    def give_back(self, buffer_id: int) -> None:
        """Hand a buffer back: at once where it is the fourth, else with those that come, at the latest by
        :meth:`flush`."""
        if not 0 <= buffer_id < 1 << ID_BITS:
            raise ValueError(f"A buffer's id must be in 0..{(1 << ID_BITS) - 1}, not {buffer_id!r}")
        batch = self._batch
        self.core.spend(self._op_batch)
        batch.append(buffer_id)
        if len(batch) == IDS_PER_RETURN:
            self.flush()

    @property
    def waiting(self) -> int:
        """Buffers that were given back, and for which no register was written yet."""
        return len(self._batch)

    def flush(self) -> None:
        """Hand back what waits."""
        batch = self._batch
        if batch:
            self._batch = []
            self.returned += len(batch)
            self.return_writes += 1
            self.core.mmio_write(self._returns[len(batch) - 1], _word(batch), op=self._op_return)

    def settle(self) -> None:
        """Hand back what waits, and let the device take it: commands do not wait for return registers."""
        self.flush()
        self.core.sleep_until(self.core.time + POLL_STEP_PS)

    def forget(self) -> None:
        """The device has been reset: nothing waits any more."""
        self._batch.clear()

    # Feedback loop, low water, leaks

    def set_limit(self, limit: int, resume: int | None = None) -> None:
        """No more than ``limit`` buffers outstanding (0: any number); a loop that closed opens again at ``resume``,
        three quarters of that by default."""
        resume = limit * 3 // 4 if resume is None else resume
        self._write("limit", limit=limit, resume=resume)
        self._fixed = resume if limit else None
        self._note_resume()

    def track(self, *, window: int, slack: int) -> None:
        """The limit follows the steady state, in windows of ``1 << window`` cycles, with ``slack`` buffers more."""
        self._change_loop(track=1, window=window, slack=slack)

    def stop_tracking(self) -> None:
        """The limit is that of :meth:`set_limit` again."""
        self._change_loop(track=0)

    def close_loop(self) -> None:
        """Refuse all frames of the pool's queues, whatever is outstanding, until :meth:`open_loop`."""
        self._change_loop(close=1)

    def open_loop(self) -> None:
        """Refuse none, unless the limit says so again."""
        self._change_loop(open=1, close=0)

    def arm_low_water(self, threshold: int, vector: int) -> None:
        """One interrupt of ``vector`` as soon as fewer than ``threshold`` buffers are free."""
        self._write("low_water", threshold=threshold, vector=vector, arm=1)

    def set_overdue_bound(self, ticks: int) -> None:
        """Buffers that are out for more than ``ticks`` times 1024 cycles are overdue; 0: none is."""
        self._write("overdue_bound", bound=ticks)

    # Reports

    def counts(self) -> PoolCounts:
        """How the buffers are spread now; the registers are read one after the other."""
        read, get = self._read, self._get
        status, buffers, out, loop = read("status"), read("buffers"), read("outstanding"), read("loop_status")
        return PoolCounts(
            state=PoolState(get("status", status, "state")),
            closed=bool(get("status", status, "closed")),
            free=get("buffers", buffers, "free"),
            joined=get("buffers", buffers, "joined"),
            outstanding=get("outstanding", out, "outstanding"),
            ahead=get("outstanding", out, "ahead"),
            limit=get("loop_status", loop, "limit"),
            closings=get("loop_status", loop, "closings"),
        )

    def misuse(self) -> MisuseReport | None:
        """The first that was refused since the last :meth:`acknowledge_misuse`, or None."""
        word, get = self._read("misuse"), self._get
        if word == ALL_ONES or not get("misuse", word, "valid"):  # all ones: the device is gone
            return None
        return MisuseReport(
            pool=self.pool,
            error=RecycleError(get("misuse", word, "error")),
            source=RecycleSource(get("misuse", word, "source")),
            id=get("misuse", word, "id"),
            queue=get("misuse", word, "queue"),
            refused=self._get("misuse_count", self._read("misuse_count"), "refused"),
        )

    def acknowledge_misuse(self) -> None:
        """Make room for the next one's report."""
        self._write("acknowledge", misuse=1)

    # Registers

    def _change_loop(self, *, open: int = 0, **values: int) -> None:
        loop = self._loop | values
        self._write("loop", open=open, **loop)
        self._loop = loop
        self._note_resume()

    def _note_resume(self) -> None:
        # Where it tracks, only the device knows.
        self.resume = 0 if self._loop["track"] else self._fixed

    def _command(self, command: Any, buffer_id: int = 0, length: int = 0) -> tuple[RecycleError, BufferReport]:
        self._write("command", command=command.value, id=buffer_id, length=length)
        get = self._get
        word = self._wait("result", lambda word: not get("result", word, "busy"), f"command {command.name}")
        report = BufferReport(
            get("result", word, "id"),
            BufferState(get("result", word, "state")),
            get("result", word, "queue"),
            get("result", word, "age"),
        )
        return RecycleError(get("result", word, "error")), report

    def _done(self, answer: tuple[RecycleError, BufferReport], what: str) -> None:
        error, _ = answer
        if error is not RecycleError.NONE:
            raise PoolError(f"Pool {self.pool} refused {what}: {WHY.get(error, error.name)}", error)

    def _wait_state(self, state: Any) -> None:
        get = self._get
        try:
            self._wait("status", lambda word: get("status", word, "state") == state.value, f"state {state.name}")
        except DeviceError as error:
            counts = self.counts()
            raise DeviceError(
                f"{error}: it is {counts.state.name}, {counts.outstanding} buffers are outstanding, "
                f"{counts.ahead} held in advance, {counts.free} of {counts.joined} free"
            ) from None

    def _wait(self, name: str, ready: Callable[[int], bool], what: str) -> int:
        deadline = self.core.time + POOL_TIMEOUT_PS
        while not ready(word := self._read(name)):
            if self.core.time >= deadline:
                raise DeviceError(f"Waited {POOL_TIMEOUT_PS // 10**9} ms for {what} of pool {self.pool}")
            self.core.sleep_until(self.core.time + POLL_STEP_PS)
        return word

    def _read(self, name: str) -> int:
        return self.core.mmio_read(self._at[name])

    def _get(self, name: str, word: int, field: str) -> int:
        return self._registers[name].get(word, field)

    def _write(self, name: str, **values: int) -> None:
        self.core.mmio_write(self._at[name], self._registers[name].pack(**values))


def _word(ids: Sequence[int]) -> int:
    """Ids as a return register takes them."""
    return sum(buffer_id << shift for buffer_id, shift in zip(ids, _SHIFTS, strict=False))
