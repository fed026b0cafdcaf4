# SPDX-License-Identifier: BSD-2-Clause
"""Pages of buffers that are mapped to other pages of memory: who reaches an old one is found out."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from driver_model.drivers.iommu.commands import invalidate_device, invalidate_page, invalidate_space
from hw.abi.codec import Codec
from hw.abi.iommu import COMMAND_BYTES, FenceCommand, Opcode
from hw.abi.iommu_registers import iommu_registers
from sim.backends.base import Backend
from sim.config import IOMMU_REGISTERS
from sim.host.mailbox import MailboxClient
from sim.line_rate.job import VIRTUAL
from sim.line_rate.run import LEVELS, PHYSICAL, LineRun
from sim.load_tables import DEVICE_ID, INDEX_BITS, PAGE, PPN_SHIFT, PSCID, table_bytes

FENCE = Codec(FenceCommand)
ENTRIES = PAGE // COMMAND_BYTES
SPARE = 48  #: pages besides those that buffers have at first
FREE = 0xEF  #: every byte of a page that nobody may reach
WHOLE = 1 << 64
POLLS = 1000


class Mappings:
    """The page table's leaves for buffers of a page each, and the IOMMU's command queue, by the driver's rules.

    After :meth:`unmap`, and :meth:`map` where the buffer is not let go, :meth:`invalidate` posts what makes IOMMU and
    device forget: invalidation and fence, then the device's and a fence. When the last one has ended, nobody may reach
    the old pages: their bytes are :data:`FREE` from then on, and accesses to them are found out by
    :meth:`watch`, writes by :meth:`check` as well.

    Attributes
    ----------
    rng : source of every choice
    busy : a fence has not ended
    """

    def __init__(self, backend: Backend, seed: int):
        self.rng = random.Random(seed)
        self.busy = False
        self._name = f"seed {seed}"
        self._backend = backend
        memory = backend.storage["memory"]
        self._pages = memory.reshape(-1, PAGE)
        self._words = memory.view(np.uint64)
        self._registers = iommu_registers()
        self._moved: list[int] = []  # buffers that were unmapped since the last fence,
        self._old: list[int] = []  # and their pages
        self._later: list[bytes] = []  # commands that wait for the fence
        self._fences = self._posted = 0

    def open(
        self,
        mailbox: MailboxClient,
        read: Callable[[int], int],
        run: LineRun,
        first: int,
        count: int,
        events: tuple[Any, ...],
    ) -> None:
        """Turn the command queue and event counters on; ``first`` is the address of the first of ``count`` buffers."""
        self._mailbox, self._read = mailbox, read
        self._events = events
        self._root = run.end // PAGE + 1
        after = -(-(run.end + table_bytes(run.end - PHYSICAL, LEVELS)) // PAGE)
        self._queue, self._word = after, (after + 1) * PAGE
        self._unreachable = list(range(after + 2, after + 2 + SPARE))
        for page in self._unreachable:
            self._pages[page] = FREE
        self._iova = VIRTUAL - PHYSICAL + first
        self._flags = int(self._words[self._leaf(0)]) & (1 << PPN_SHIFT) - 1
        self._page = [first // PAGE + number for number in range(count)]
        self._token = self._backend.watch("memory", self._word, self._word + 4)
        for number, event in enumerate(events, 1):
            self._write(f"iohpmevt{number}", eventid=event.value)
        self._write("cqb", log2sz_1=ENTRIES.bit_length() - 2, ppn=self._queue)
        self._write("cqcsr", cqen=1)
        register = self._registers["cqcsr"]
        for _ in range(POLLS):
            if register.get(read(IOMMU_REGISTERS + register.offset), "cqon"):
                return
        raise AssertionError(f"{self._name}: the command queue was not on after {POLLS} reads")

    def counts(self, read: Callable[[int], int]) -> list[int]:
        """Of each event."""
        return [
            read(IOMMU_REGISTERS + self._registers[f"iohpmctr{number}"].offset)
            for number in range(1, len(self._events) + 1)
        ]

    def data(self, buffer: int) -> np.ndarray:
        """The bytes of the page that a buffer is mapped to."""
        return self._pages[self._page[buffer]]

    def unmap(self, buffer: int) -> None:
        """Unmap a buffer; its page may be reached until the last fence has ended."""
        self._words[self._leaf(buffer)] = 0
        self._moved.append(buffer)
        self._old.append(self._page[buffer])

    def map(self, buffer: int) -> None:
        """Map one that is not, to a page that nobody could reach."""
        page = self._unreachable.pop(0)
        self._check(page)
        self._page[buffer] = page
        self._words[self._leaf(buffer)] = page << PPN_SHIFT | self._flags

    def invalidate(self) -> None:
        """Have all forget what was unmapped."""
        rng = self.rng
        first = [self._iova + PAGE * buffer for buffer in self._moved]
        pages = [invalidate_page(PSCID, iova) for iova in first]
        devices = [invalidate_device(DEVICE_ID, iova, PAGE) for iova in first]
        grain = rng.random()
        if grain < 0.15:
            devices = [invalidate_device(DEVICE_ID, 0, WHOLE)]
        elif grain < 0.4:
            devices = [invalidate_device(DEVICE_ID, min(first), max(first) + PAGE - min(first))]
        if rng.random() < 0.2:
            pages = [invalidate_space(PSCID)]
        self.busy = True
        mine, theirs = [*pages, self._fence()], [*devices, self._fence()]
        if rng.random() < 0.5:
            self._post(mine + theirs)
        else:
            self._later = theirs
            self._post(mine)

    def fence_ended(self, tokens: list[int]) -> bool:
        """Given the watches that were hit: the last fence has ended, and pages are old."""
        if self._token not in tokens:
            return False
        if self._later:
            self._post(self._later)
            self._later = []
            return False
        if int.from_bytes(self._pages.reshape(-1)[self._word : self._word + 4].tobytes(), "little") != self._fences:
            return False
        self.watch()
        self._pages[self._old] = FREE
        self._unreachable += self._old
        self._old, self._moved, self.busy = [], [], False
        return True

    def watch(self) -> None:
        """Look at the accesses to memory since the last call."""
        unreachable = set(self._unreachable)
        for access in self._backend.accesses():
            for page in range(access.address // PAGE, (access.address + access.length - 1) // PAGE + 1):
                assert page not in unreachable, f"{self._name}: {access} is to a page that nobody may reach"

    def check(self) -> None:
        """Look at every page that nobody may reach."""
        self.watch()
        for page in self._unreachable:
            self._check(page)

    def _check(self, page: int) -> None:
        wrong = self._pages[page] != FREE
        assert not wrong.any(), f"{self._name}: byte {int(wrong.argmax()):#x} of the old page {page:#x} changed"

    def _leaf(self, buffer: int) -> int:
        """Word of memory that maps a buffer."""
        number, table = self._iova // PAGE + buffer, self._root
        for level in range(LEVELS - 1, -1, -1):
            slot = table * PAGE // 8 + (number >> INDEX_BITS * level) % (1 << INDEX_BITS)
            table = int(self._words[slot]) >> PPN_SHIFT
        return slot

    def _fence(self) -> bytes:
        self._fences += 1
        fields = {"av": 1, "pr": 1, "pw": 1, "address": self._word >> 2, "data": self._fences}
        return FENCE.pack(opcode=Opcode.IOFENCE.value, **fields)

    def _post(self, commands: list[bytes]) -> None:
        for command in commands:
            place = self._posted % ENTRIES * COMMAND_BYTES
            self._pages[self._queue, place : place + COMMAND_BYTES] = np.frombuffer(command, np.uint8)
            self._posted += 1
        self._write("cqt", index=self._posted % ENTRIES)

    def _write(self, name: str, **fields: int) -> None:
        register = self._registers[name]
        self._mailbox.write_register(IOMMU_REGISTERS + register.offset, register.pack(**fields), register.width // 8)
