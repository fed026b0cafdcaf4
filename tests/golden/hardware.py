# SPDX-License-Identifier: BSD-2-Clause
"""The hardware as comparisons use it: scripts of accesses, commands, registers, fault records."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hw.abi.rings import AddressType as HardwareType
from hw.abi.rings import Sideband
from sim.backends.base import Backend
from tests.golden.model import Access, AddressType, DirectoryMode, Record, Request
from tests.golden.player import RESULT_BYTES, ROW_BYTES, Operation

DDTP, CQB, CQH, FQB, FQH, CSR, TR_REQ_IOVA, TR_REQ_CTL, TR_RESPONSE = (*(16, 24, 32, 40, 48, 72, 600, 608, 616),)
BUSY = 1 << 4  #: of ddtp
COMMANDS, FAULTS = 1 << 20, 1 << 20 | 1 << 16  #: where the queues are
COMMAND_SLOTS, FAULT_SLOTS = 64, 1024
MOST_CYCLES = 30_000  #: for a script
LOW_HALF, HIGH_HALF, BOTH = 0x0F, 0xF0, 0xFF
HARDWARE_TYPES = {
    AddressType.UNTRANSLATED: HardwareType.UNTRANSLATED,
    AddressType.TRANSLATION_REQUEST: HardwareType.TRANSLATION_REQUEST,
    AddressType.TRANSLATED: HardwareType.TRANSLATED,
    AddressType.PREFETCH: HardwareType.PREFETCH,
}


class Step(NamedTuple):
    """A row of the script."""

    operation: Operation
    address: int = 0
    data: int = 0
    user: int = 0
    alone: bool = False
    strobe: int = BOTH

    def words(self) -> tuple[int, int, int, int]:
        return self.address, self.data, self.user, self.operation.value | self.alone << 3 | self.strobe << 4


class Row(NamedTuple):
    """A row of results."""

    value: int
    response: int
    done: bool


class Hardware:
    """A machine of :mod:`tests.golden.machine`, script by script."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.script = backend.storage["script"].view(np.uint64).reshape(-1, ROW_BYTES // 8)
        self.tables = backend.storage["tables"]
        self.command_tail = 0
        self.fault_head = 0

    def play(self, steps: Sequence[Step]) -> None:
        """Play these steps to the end."""
        rows = np.array([step.words() for step in (*steps, Step(Operation.HALT))], np.uint64)
        for name in ("results", "written", "seen"):
            self.backend.storage[name][: len(rows) * RESULT_BYTES] = 0
        halt = (len(rows) - 1) * RESULT_BYTES
        token = self.backend.watch("results", halt, halt + RESULT_BYTES)
        self.script[1 : len(rows)] = rows[1:]
        self.script[0] = rows[0]
        last = self.backend.cycle + MOST_CYCLES
        self.backend.advance(last)
        self.backend.unwatch(token)
        self.script[: len(rows)] = 0
        if not self.row("results", len(rows) - 1).done:
            done = [place for place in range(len(steps)) if self.row("results", place).done]
            raise TimeoutError(f"No end of the script within {MOST_CYCLES} cycles; results of rows {done}")

    def row(self, name: str, place: int) -> Row:
        value, state = self.backend.storage[name].view(np.uint64)[place * 2 : place * 2 + 2].tolist()
        return Row(value, state & 3, bool(state >> 63))

    def read(self, address: int) -> int:
        self.play([Step(Operation.READ_REGISTER, address)])
        return self.row("results", 0).value

    def reset(self) -> None:
        """As after power-on, with queues."""
        self.backend.reset()
        self.configure()

    def configure(self) -> None:
        """Both queues on, with nothing in them."""
        log2 = COMMAND_SLOTS.bit_length() - 2, FAULT_SLOTS.bit_length() - 2
        self.play(
            [
                Step(Operation.WRITE_REGISTER, CQB, COMMANDS >> 2 | log2[0]),
                Step(Operation.WRITE_REGISTER, FQB, FAULTS >> 2 | log2[1]),
                Step(Operation.WRITE_REGISTER, CSR, 1, strobe=LOW_HALF),
                Step(Operation.WRITE_REGISTER, CSR, 1 << 32, strobe=HIGH_HALF),
            ]
        )
        self.command_tail = self.fault_head = 0

    def command(self, *commands: int) -> None:
        """Give commands and wait until the queue is empty."""
        for command in commands:
            start = COMMANDS + self.command_tail * 16
            self.tables[start : start + 16] = np.frombuffer(command.to_bytes(16, "little"), np.uint8)
            self.command_tail = (self.command_tail + 1) % COMMAND_SLOTS
        self.play([Step(Operation.WRITE_REGISTER, CQH, self.command_tail << 32, strobe=HIGH_HALF)])
        for _ in range(50):
            if self.read(CQH) & 0xFFFF_FFFF == self.command_tail:
                return
            self.backend.advance(self.backend.cycle + 50)
        raise TimeoutError(
            f"Commands up to {self.command_tail} were not taken: cqcsr and fqcsr are {self.read(CSR):#x}"
        )

    def forget(self) -> None:
        """Invalidate everything, by commands."""
        directory, first, second, fence = 3, 1, 1 | 1 << 7, 2
        guests = [1 | 1 << 33 | gscid << 44 for gscid in (0, 1, 2, 0x8000, 0x7FFF)]
        self.command(directory, first, *guests, second, fence)

    def set_directory(self, mode: DirectoryMode, ppn: int) -> None:
        self.play(
            [
                Step(Operation.WRITE_REGISTER, DDTP, 0),
                Step(Operation.READ_REGISTER, DDTP, BUSY),
                Step(Operation.WRITE_REGISTER, DDTP, ppn << 10 | mode),
                Step(Operation.READ_REGISTER, DDTP, BUSY),
            ]
        )

    def records(self, expected: int) -> Counter[Record]:
        """Fault records since the last call; waits for as many as are expected."""
        tail = self.fault_head
        for _ in range(50):
            tail = self.read(FQH) >> 32
            if (tail - self.fault_head) % FAULT_SLOTS >= expected:
                break
            self.backend.advance(self.backend.cycle + 50)
        found: Counter[Record] = Counter()
        while self.fault_head != tail:
            start = FAULTS + self.fault_head * 32
            words = self.tables[start : start + 32].view(np.uint64).tolist()
            found[_record(*words)] += 1
            self.fault_head = (self.fault_head + 1) % FAULT_SLOTS
        self.play([Step(Operation.WRITE_REGISTER, FQH, self.fault_head, strobe=LOW_HALF)])
        return found


def _record(head: int, custom: int, iotval: int, iotval2: int) -> Record:
    return Record(
        cause=head & 0xFFF,
        transaction_type=head >> 34 & 0x3F,
        device_id=head >> 40,
        process_id=head >> 12 & 0xFFFFF if head >> 32 & 1 else None,
        privileged=bool(head >> 33 & 1),
        iotval=iotval,
        iotval2=iotval2,
    )


def _user(request: Request) -> int:
    return int(
        Sideband.const(
            {
                "device_id": request.device_id,
                "process_id": request.process_id or 0,
                "process_id_valid": request.process_id is not None,
                "address_type": HARDWARE_TYPES[request.address_type],
            }
        )
        .as_value()
        .value
    )


def steps(request: Request, *, alone: bool, debug: bool) -> list[Step]:
    """How the device, or the debug registers, ask a request; the last step's row has the outcome."""
    if not debug:
        operation = Operation.WRITE if request.access is Access.WRITE else Operation.READ
        return [Step(operation, request.iova, user=_user(request), alone=alone)]
    control = (
        1
        | (request.access is Access.EXECUTE) << 2
        | (request.access is not Access.WRITE) << 3
        | (request.process_id or 0) << 12
        | (request.process_id is not None) << 32
        | request.device_id << 40
    )
    return [
        Step(Operation.WRITE_REGISTER, TR_REQ_IOVA, request.iova),
        Step(Operation.WRITE_REGISTER, TR_REQ_CTL, control),
        Step(Operation.READ_REGISTER, TR_REQ_CTL, 1),
        Step(Operation.READ_REGISTER, TR_RESPONSE),
    ]
