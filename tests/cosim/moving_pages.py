# SPDX-License-Identifier: BSD-2-Clause
"""Address spaces that change while a device uses them, on the whole machine: one run for each seed."""

import random
from typing import Any

from hw.abi.codec import Codec
from hw.abi.iommu import COMMAND_BYTES, Cause, DirectoryMode, FaultRecord, FenceCommand, Opcode, TransactionType
from hw.abi.iommu_registers import iommu_registers
from sim.backends.base import Backend
from sim.config import IOMMU_REGISTERS, MachineConfig
from sim.host.load_client import Load, LoadClient
from sim.host.load_generator import REGISTERS, START, VECTOR
from sim.host.mailbox import Interrupt
from tests.cosim.moving_frames import CHUNK, Frames
from tests.cosim.moving_space import GRAINS, KINDS, PAGES, Change, MovingSpace
from tests.golden.paging import Memory
from tests.golden.tables import PAGE, Tables

RECORD, FENCE = Codec(FaultRecord), Codec(FenceCommand)
COMMANDS, FAULTS, FENCES, TABLES = 1, 32, 2, 64  #: pages
COMMAND_ENTRIES, FAULT_ENTRIES = PAGE // COMMAND_BYTES, 4096
SINGLES = len(KINDS) * PAGES + 120
CHUNKS = 4
LOADS = 6  #: of each seed
LIMIT = 200_000  #: cycles of a load
FENCE_LIMIT = 20_000
CAUSES = {
    Cause.READ_PAGE.value: TransactionType.UNTRANSLATED_READ.value,
    Cause.READ_GUEST_PAGE.value: TransactionType.UNTRANSLATED_READ.value,
    Cause.WRITE_PAGE.value: TransactionType.UNTRANSLATED_WRITE.value,
    Cause.WRITE_GUEST_PAGE.value: TransactionType.UNTRANSLATED_WRITE.value,
}


class Moving:
    """A machine just after reset, with a load generator in the NIC's place.

    Between two fences spaces change, while a load runs over one of them. A page that was unmapped may be reached until
    a fence is over that follows its invalidation, and a table that was replaced may be walked.
    """

    def __init__(self, backend: Backend, seed: int) -> None:
        self.backend = backend
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.client = LoadClient(backend)
        memory = backend.storage["memory"]
        self.memory = memory
        singles = list(range(TABLES, TABLES + SINGLES))
        chunk = -(-singles[-1] // CHUNK) * CHUNK + CHUNK
        chunks = [chunk + CHUNK * number for number in range(CHUNKS)]
        rng.shuffle(singles)
        self.frames = Frames(memory, singles, chunks, f"seed {seed}")
        rest = range(chunks[-1] + CHUNK, len(memory) // PAGE)
        self.tables = Tables(Memory(memory.data), list(reversed(rest)))
        self.directory = self.tables.take()
        self.spaces = [
            MovingSpace(kind, number, self.tables, self.directory, self.frames, rng)
            for number, kind in enumerate(KINDS, 1)
        ]
        self.lazy = rng.choice((1, 1, 4, 12))  # changes for each fence
        self.pause = rng.choice((20, 100, 400))  # cycles between two changes, at most
        self.fenced: list[Change] | None = None
        self.fences = 0
        self.posted = 0
        self.changes = 0
        self.refused = 0
        self.done = 0
        self.token = backend.watch("memory", FENCES * PAGE, FENCES * PAGE + 4)
        self.registers = iommu_registers()

    # The IOMMU

    def write(self, name: str, **fields: int) -> None:
        register = self.registers[name]
        self.client.mailbox.write_register(
            IOMMU_REGISTERS + register.offset, register.pack(**fields), register.width // 8
        )

    def read(self, name: str, field: str) -> int:
        register = self.registers[name]
        value = self.client.read(IOMMU_REGISTERS + register.offset // 8 * 8) >> register.offset % 8 * 8
        return register.get(value & (1 << register.width) - 1, field)

    def wait(self, name: str, field: str, value: int) -> None:
        for _ in range(1000):
            if self.read(name, field) == value:
                return
        raise AssertionError(f"seed {self.seed}: waited 1000 reads for {name}.{field} to be {value}")

    def open(self) -> None:
        """Queues, then translation."""
        self.write("cqb", log2sz_1=COMMAND_ENTRIES.bit_length() - 2, ppn=COMMANDS)
        self.write("fqb", log2sz_1=FAULT_ENTRIES.bit_length() - 2, ppn=FAULTS)
        self.write("cqcsr", cqen=1)
        self.write("fqcsr", fqen=1)
        self.wait("cqcsr", "cqon", 1)
        self.wait("fqcsr", "fqon", 1)
        self.write("ddtp", iommu_mode=DirectoryMode.LVL1.value, ppn=self.directory)
        self.wait("ddtp", "busy", 0)

    def post(self, commands: list[bytes]) -> None:
        """Post commands and a fence."""
        self.fences += 1
        fence = FENCE.pack(
            opcode=Opcode.IOFENCE.value,
            av=1,
            pr=self.rng.randrange(2),
            pw=self.rng.randrange(2),
            address=FENCES * PAGE // 4,
            data=self.fences,
        )
        for command in (*commands, fence):
            at = COMMANDS * PAGE + self.posted % COMMAND_ENTRIES * COMMAND_BYTES
            self.memory.data[at : at + COMMAND_BYTES] = command
            self.posted += 1
        self.write("cqt", index=self.posted % COMMAND_ENTRIES)

    # Changes

    def invalidate(self) -> None:
        """Post what makes the IOMMU forget all changes."""
        taken = [(space, space.take_change()) for space in self.spaces if space.change]
        grain = self.rng.choice(GRAINS)
        commands = [command for space, change in taken for command in space.commands(change, grain)]
        assert len(commands) < COMMAND_ENTRIES - 1
        self.fenced = [change for _, change in taken]
        self.post(commands)

    def after_fence(self) -> None:
        """Nobody reaches what was changed before the fence's invalidations."""
        self.frames.watch(self.backend.accesses())
        assert self.fenced is not None
        for change in self.fenced:
            for frame in change.frames:
                self.frames.retire(frame)
            for table in change.tables:
                self.frames.retire_table(table)
            for call in change.ended:
                call()
        self.fenced = None

    def advance(self, cycles: int) -> bool:
        """Let the machine go on; whether the load has ended."""
        backend = self.backend
        until = backend.cycle + cycles
        ended = False
        while backend.cycle < until and not ended:
            backend.advance(until)
            tokens = backend.hits()
            if self.token in tokens:
                word = int.from_bytes(self.memory.data[FENCES * PAGE : FENCES * PAGE + 4], "little")
                assert (word, self.fenced is None) == (self.fences, False), f"seed {self.seed}: fence {word} ended"
                self.after_fence()
            for event in self.client.mailbox.events():
                assert isinstance(event, Interrupt), f"seed {self.seed}: {event}"
                assert event.vector == VECTOR, f"seed {self.seed}: {event}"
                ended = True
        return ended

    def change(self, active: MovingSpace) -> None:
        """Change something, more often where the load is, and sooner or later have it forgotten."""
        space = active if self.rng.random() < 0.8 else self.rng.choice(self.spaces)
        space.step()
        self.changes += 1
        if self.fenced is None and self.rng.randrange(self.lazy) == 0 and any(each.change for each in self.spaces):
            self.invalidate()

    def settle(self) -> None:
        """Have all forgotten, with no load running."""
        for _ in range(2):
            limit = self.backend.cycle + FENCE_LIMIT
            while self.fenced is not None:
                assert self.backend.cycle < limit, f"seed {self.seed}: a fence took {FENCE_LIMIT} cycles"
                self.advance(100)
            if any(space.change for space in self.spaces):
                self.invalidate()

    # Loads

    def play(self, number: int) -> None:
        """A load over one of the spaces, to its end."""
        rng, mailbox = self.rng, self.client.mailbox
        space = rng.choice(self.spaces)
        size = rng.choice((8, 64, 256))
        load = Load(
            window=PAGES * PAGE,
            base=space.address,
            size=size,
            count=rng.choice((60, 150)),
            write=rng.random() < 0.6,
            random=rng.random() < 0.7,
            outstanding=rng.choice((1, 8, 64)),
            interval=rng.choice((256, 2560)),
            ids=rng.choice((1, 3, 16)),
            device_id=space.device,
            seed=rng.randrange(1, 1 << 32),
        )
        for name, value in load.registers().items():
            mailbox.write_register(REGISTERS[name], value)
        mailbox.write_register(START, 1)
        limit = self.backend.cycle + LIMIT
        while not self.advance(rng.randint(1, self.pause)):
            assert self.backend.cycle < limit, f"seed {self.seed}: load {number} took {LIMIT} cycles: {load}"
            self.change(space)
        self.settle()
        done, errors = (self.client.read(REGISTERS[name]) for name in ("done", "errors"))
        assert done == load.count
        refused, beats = divmod(errors, 1 if load.write else size // 8)
        assert not beats, f"seed {self.seed}: {errors} beats of {load} were errors"
        self.done += done
        self.refused += refused
        self._check_records(space, load, refused)

    def _check_records(self, space: MovingSpace, load: Load, refused: int) -> None:
        """Each refused request has its record, of a page that was not mapped for a while."""
        head, tail = self.read("fqh", "index"), self.read("fqt", "index")
        assert (tail - head) % FAULT_ENTRIES == refused, f"seed {self.seed}: {refused} refused, queue {head}..{tail}"
        for index in range(refused):
            at = FAULTS * PAGE + (head + index) % FAULT_ENTRIES * RECORD.size
            record = RECORD.unpack(self.memory.data[at : at + RECORD.size])
            assert record.did == space.device
            assert record.ttyp == CAUSES[record.cause]
            assert load.write == (record.ttyp == TransactionType.UNTRANSLATED_WRITE.value)
            assert record.iotval // PAGE - space.base in space.holes, f"seed {self.seed}: {record}"
            guest = record.cause in (Cause.READ_GUEST_PAGE.value, Cause.WRITE_GUEST_PAGE.value)
            assert guest <= bool(space.second), f"seed {self.seed}: {record}"
        self.write("fqh", index=tail)


def storm(backend: Backend, machine: MachineConfig, seeds: list[int]) -> list[dict[str, Any]]:
    """Job: a run for each seed, and what happened in it."""
    results = []
    for index, seed in enumerate(seeds):
        if index:
            backend.reset()
        run = Moving(backend, seed)
        run.open()
        run.client.mailbox.set_stalls(run.rng.choice((0, 40, 120)), seed)
        for number in range(LOADS):
            run.play(number)
        run.frames.watch(backend.accesses())
        run.frames.check()
        results.append(
            {
                "seed": seed,
                "cycles": backend.cycle,
                "done": run.done,
                "refused": run.refused,
                "changes": run.changes,
                "fences": run.fences,
                "reached": run.frames.reached,
            }
        )
    return results
