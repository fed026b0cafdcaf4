# SPDX-License-Identifier: BSD-2-Clause
"""Pages of memory that devices may reach for a while: who reaches one too late or at a wrong address is found out."""

import numpy as np

from sim.backends.base import Access
from tests.golden.paging import PTE_R, PTE_U, PTE_V, PTE_W
from tests.golden.tables import PAGE, table_entry

WORDS = PAGE // 8
CHUNK = 16  #: pages of a 64 KiB leaf
FREE = np.uint64(0xF4EE_F4EE_F4EE_F4EE)  #: every word of a data page that nobody may reach


class Frames:
    """Data pages, and pages of tables that are in use no more.

    A device writes into each word the address that it writes it at, so a page's contents tell by which address it was
    reached. A table that was given up gets entries whose A and D would be set by whoever still walks it.

    Parameters
    ----------
    memory : bytes of host memory
    pages : pages to be had one by one
    chunks : first pages of those that are had :data:`CHUNK` at a time, aligned
    name : whose they are, for messages

    Attributes
    ----------
    reached : accesses to data pages
    """

    def __init__(self, memory: np.ndarray, pages: list[int], chunks: list[int], name: str) -> None:
        self._words = memory.view(np.uint64).reshape(-1, WORDS)
        self._name = name
        self._pages, self._chunks = list(pages), list(chunks)
        self._in_chunks = {first + page for first in chunks for page in range(CHUNK)}
        self._data = {*pages, *self._in_chunks}
        self._address: dict[int, int] = {}  # of the pages that may be reached
        self._old_tables: set[int] = set()
        self._trap = np.uint64(table_entry(pages[0], PTE_V | PTE_R | PTE_W | PTE_U))
        self.reached = 0
        for page in self._data:
            self._words[page] = FREE

    @property
    def spare(self) -> int:
        """How many pages there are to be had one by one."""
        return len(self._pages)

    def take(self) -> int:
        """A page that nobody may reach yet."""
        return self._pages.pop(0)

    def take_chunk(self) -> int | None:
        """The first of so many, if any are left."""
        return self._chunks.pop(0) if self._chunks else None

    def give(self, page: int) -> None:
        """A page, or the first of a chunk, that nobody may reach is there to be had again."""
        if page not in self._in_chunks:
            self._pages.append(page)
        elif page % CHUNK == 0:
            self._chunks.append(page)

    def admit(self, page: int, address: int) -> None:
        """From now on a device may reach a page, at this address."""
        self._check(page)
        self._address[page] = address

    def retire(self, page: int) -> None:
        """From now on nobody may."""
        self._check(page)
        del self._address[page]
        self._words[page] = FREE

    def retire_table(self, page: int) -> None:
        """From now on nobody walks this table."""
        self._old_tables.add(page)
        self._words[page] = self._trap

    def take_table(self) -> int | None:
        """A table that was given up, to be used again."""
        if not self._old_tables:
            return None
        page = min(self._old_tables)
        self._check_table(page)
        self._old_tables.remove(page)
        self._words[page] = 0
        return page

    def watch(self, accesses: list[Access]) -> None:
        """Accesses to memory since the last call; to be told before each change of who may reach what."""
        for access in accesses:
            page = access.address // PAGE
            if page in self._data:
                self.reached += 1
                assert page in self._address, f"{self._name}: {access} is to a page that nobody may reach"
            assert page not in self._old_tables, f"{self._name}: {access} is to a table that was given up"

    def check(self) -> None:
        """Look at every page."""
        for page in self._data:
            self._check(page)
        for page in self._old_tables:
            self._check_table(page)

    def _check(self, page: int) -> None:
        words = self._words[page]
        wrong = words != FREE
        if page in self._address:
            wrong &= words != np.arange(self._address[page], self._address[page] + PAGE, 8, dtype=np.uint64)
        if wrong.any():
            place = int(wrong.argmax())
            allowed = f"{self._address[page]:#x}" if page in self._address else "no address"
            raise AssertionError(
                f"{self._name}: {page * PAGE + 8 * place:#x} was written at {int(words[place]):#x}, and its page may "
                f"be reached at {allowed}"
            )

    def _check_table(self, page: int) -> None:
        changed = self._words[page] != self._trap
        assert not changed.any(), f"{self._name}: entry {int(changed.argmax())} of table {page:#x}, given up, changed"
