# SPDX-License-Identifier: BSD-2-Clause
"""Pools of a NIC without hardware: each buffer in one place, claims, misuse, the loop, as ``hw/abi`` says."""

from collections import deque
from collections.abc import Callable
from typing import Any

from hw.abi.pools import BufferState, PoolCommand, PoolState, RecycleError, RecycleSource
from hw.abi.registers import RegisterMap

TICK_PS = 1024 * 6_400
NO_QUEUE = 255


class FakePool:
    """One pool. The device's side takes buffers with :meth:`pop`, hands them over with :meth:`deliver`, and asks
    :meth:`claim` whether software may hand one back.

    Parameters
    ----------
    registers : the register map
    number : the pool's
    ids : of each pool
    now : the time, in picoseconds
    interrupt : sends a message with a vector
    """

    def __init__(
        self,
        registers: RegisterMap,
        number: int,
        ids: int,
        now: Callable[[], int],
        interrupt: Callable[[int], None],
    ) -> None:
        self.map = registers.pool
        self.number = number
        self.ids = ids
        self.now = now
        self.interrupt = interrupt
        self.stays = False  #: never leave the state it is in
        self.stuck = False  #: never end a command
        self.values: dict[str, int] = {}
        self.return_writes: list[list[int]] = []  #: ids of each
        self.drops = 0  #: frames refused by the loop
        self.state = PoolState.DISABLED
        self.clear()

    def clear(self) -> None:
        """All of before is forgotten."""
        self.free: deque[int] = deque()
        self.table: dict[int, tuple[int, int]] = {}
        self.out: dict[int, tuple[int, int]] = {}  #: who has it and since when
        self.sending: set[int] = set()
        self.closed = False
        self.closings = self.refused = self.result = 0
        self.first: tuple[Any, ...] | None = None

    # The device's side

    @property
    def outstanding(self) -> int:
        """Buffers that are neither free nor unknown."""
        return len(self.table) - len(self.free)

    def admits(self, count: int) -> bool:
        """Whether the loop lets a frame have so many buffers."""
        limit = self.map["limit"].get(self.values.get("limit", 0), "limit")
        resume = self.map["limit"].get(self.values.get("limit", 0), "resume")
        if self.closed and self.outstanding <= resume:
            self.closed = False
        if not self.closed and limit and self.outstanding + count > limit:
            self.closed = True
            self.closings += 1
        return not (self.closed or self.map["loop"].get(self.values.get("loop", 0), "close"))

    def pop(self) -> int:
        """A buffer for a frame, or for software."""
        lifo = self.map["control"].get(self.values["control"], "lifo")
        buffer_id = self.free.pop() if lifo else self.free.popleft()
        self._low()
        return buffer_id

    def deliver(self, buffer_id: int, queue: int) -> None:
        """Its completion is handed over."""
        self.out[buffer_id] = queue, self.now()

    def claim(self, buffer_id: int, source: Any, queue: int = NO_QUEUE, error: Any = RecycleError.NONE) -> bool:
        """Software hands a buffer back: whether it may. It is nowhere then."""
        if error is RecycleError.NONE:
            error = self._why_not(buffer_id)
        if error is not RecycleError.NONE:
            self.refuse(error, source, buffer_id, queue)
            return False
        del self.out[buffer_id]
        return True

    def refuse(self, error: Any, source: Any, buffer_id: int, queue: int = NO_QUEUE) -> None:
        """Count it, and record the first."""
        self.refused += 1
        self.first = self.first or (error, source, buffer_id, queue)

    def sent(self, buffer_id: int) -> None:
        """A claimed buffer has been read, or goes back at once."""
        self.free.append(buffer_id)

    def _why_not(self, buffer_id: int) -> Any:
        if self.state not in (PoolState.ENABLED, PoolState.DRAINING):
            return RecycleError.POOL
        if buffer_id >= self.ids:
            return RecycleError.RANGE
        if buffer_id not in self.table:
            return RecycleError.UNKNOWN
        return RecycleError.NONE if buffer_id in self.out else RecycleError.NOT_OUT

    def _low(self) -> None:
        register, word = self.map["low_water"], self.values.get("low_water", 0)
        if register.get(word, "arm") and len(self.free) < register.get(word, "threshold"):
            self.values["low_water"] = 0
            self.interrupt(register.get(word, "vector"))

    # Registers

    def write(self, name: str, value: int) -> None:
        """Software writes a register."""
        register = self.map[name]
        if name.startswith("return"):
            ids = [register.get(value, f"id{at}") for at in range(int(name[-1]))]
            self.return_writes.append(ids)
            for buffer_id in ids:
                if self.claim(buffer_id, RecycleSource.RETURN):
                    self.sent(buffer_id)
            return
        self.values[name] = value
        if name == "control":
            if register.get(value, "enable"):
                assert self.state is PoolState.DISABLED, "enabled while it was not DISABLED"
                self.clear()
                self.state = PoolState.CLEARING
            elif self.state is not PoolState.DISABLED:
                self.state = PoolState.DRAINING
        elif name == "command":
            self._command(value)
        elif name == "loop" and register.get(value, "open"):
            self.closed = False
        elif name == "acknowledge":
            self.first = None
        elif name == "low_water":
            self._low()

    def read(self, name: str) -> int:
        """Software reads a register."""
        register = self.map[name]
        if name == "status":
            state = self.state
            if not self.stays:
                if state is PoolState.CLEARING:
                    self.state = PoolState.ENABLED
                elif state is PoolState.DRAINING and not self.outstanding:
                    self.state = PoolState.DISABLED
            return register.pack(state=state.value, closed=self.closed)
        if name == "result":
            return self.result
        if name == "buffers":
            return register.pack(free=len(self.free), joined=len(self.table))
        if name == "outstanding":
            return register.pack(outstanding=self.outstanding)
        if name == "loop_status":
            return register.pack(limit=self.values.get("limit", 0) & 0xFFFFFFFF, closings=self.closings)
        if name == "misuse_count":
            return register.pack(refused=self.refused)
        if name == "misuse":
            if self.first is None:
                return 0
            error, source, buffer_id, queue = self.first
            return register.pack(valid=1, error=error.value, source=source.value, id=buffer_id, queue=queue)
        return self.values.get(name, 0)

    def _command(self, value: int) -> None:
        register, result = self.map["command"], self.map["result"]
        buffer_id, length = register.get(value, "id"), register.get(value, "length")
        command = PoolCommand(register.get(value, "command"))
        error: Any = RecycleError.NONE
        if command is PoolCommand.JOIN:
            error = self._join(buffer_id, length)
        elif command is PoolCommand.REMOVE:
            error = self._why_not(buffer_id)
            if error is RecycleError.NONE:
                del self.out[buffer_id], self.table[buffer_id]
        elif command is PoolCommand.TAKE:
            error = RecycleError.EMPTY if not self.free else RecycleError.NONE
            if self.state is not PoolState.ENABLED:
                error = RecycleError.POOL
            if error is RecycleError.NONE:
                buffer_id = self.pop()
                self.deliver(buffer_id, NO_QUEUE)
        elif command is PoolCommand.OVERDUE:
            bound = self.values["overdue_bound"]
            late = [at for at in sorted(self.out) if at >= buffer_id and bound and self._age(at) > bound]
            error = RecycleError.NONE if late else RecycleError.EMPTY
            buffer_id = late[0] if late else buffer_id
        elif command is PoolCommand.QUERY and buffer_id >= self.ids:
            error = RecycleError.RANGE
        if error not in (RecycleError.NONE, RecycleError.EMPTY):
            self.refuse(error, RecycleSource.COMMAND, buffer_id)
        state: Any = BufferState.NONE
        if buffer_id in self.table:
            state = BufferState.OUT if buffer_id in self.out else BufferState.NIC
        queue, age = (self.out[buffer_id][0], self._age(buffer_id)) if buffer_id in self.out else (0, 0)
        self.result = result.pack(
            id=buffer_id, error=error.value, state=state.value, queue=queue, age=age, busy=self.stuck
        )

    def _join(self, buffer_id: int, length: int) -> Any:
        if self.state is not PoolState.ENABLED:
            return RecycleError.POOL
        if buffer_id >= self.ids:
            return RecycleError.RANGE
        if not length:
            return RecycleError.LENGTH
        if buffer_id in self.table:
            return RecycleError.JOINED
        self.table[buffer_id] = self.values["buffer_address"], length
        self.free.append(buffer_id)
        return RecycleError.NONE

    def _age(self, buffer_id: int) -> int:
        return (self.now() - self.out[buffer_id][1]) // TICK_PS
