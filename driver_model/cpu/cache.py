# SPDX-License-Identifier: BSD-2-Clause
"""The data caches of a machine whose devices do not see into them: what memory holds is not what the CPU sees."""

import random
from collections.abc import Callable

from driver_model.platform import Platform

LINE = 64  #: bytes of a cache line
LINE_SHIFT = 6
FRAME_SHIFT = 12  #: memory is cached or not in units of 4 KiB
HORIZON_PS = 10**8  #: what a cache does later it does within 100 us of the access or the hand-over
_SOONEST_DECADE, _LATEST_DECADE = 4, 8  # of that delay, in powers of ten of a picosecond


class CacheImage:
    """Lines that differ from memory, or may: one image for all cores, whose caches agree with each other.

    Within what the architecture allows, the cache is as bad as it can be, by a seeded generator: after any access, a
    line of it may be evicted or written back, at once or later, so may the line that has been there longest, and the
    next line may be fetched; while a range is the device's, lines of it may be fetched at any moment (speculation), and
    are stale once the device has written. So

    - a line that the CPU dirtied reaches memory at a clean, or at any moment before, or never;
    - a line that memory has changed under is seen after an invalidate, or at any moment before, or never;
    - an invalidate destroys what the CPU wrote into whole lines, unless that had been written back before: then the
      device's bytes were overwritten.

    It acts at accesses, hand-overs, and at times that it then chooses, never per cycle; the same seed and the same
    calls give the same run. Lines go to and come from memory at ``platform.now``.

    Parameters
    ----------
    platform : the machine
    seed : of the cache's choices

    Attributes
    ----------
    write_backs, fetches, evictions : what the cache did by itself
    """

    def __init__(self, platform: Platform, seed: int = 0) -> None:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"Cache seed must be an integer, not {seed!r}")
        self.write_backs = 0
        self.fetches = 0
        self.evictions = 0
        self._platform = platform
        self._random = random.Random(seed)
        self._end = platform.memory_size >> LINE_SHIFT
        self._lines: dict[int, bytearray] = {}
        self._dirty: dict[int, None] = {}
        self._uncached: set[int] = set()

    # What software sees

    def read(self, address: int, length: int) -> bytes:
        """What a load returns."""
        if address >> FRAME_SHIFT in self._uncached:
            return self._platform.read(address, length)
        if not length:
            return b""
        first, last = _lines(address, length)
        data = b"".join([self._lines.get(number) or self._fill(number) for number in range(first, last + 1)])
        self._stir(first, last)
        start = address - (first << LINE_SHIFT)
        return bytes(data[start : start + length])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """What a store does."""
        if address >> FRAME_SHIFT in self._uncached:
            self._platform.write(address, data)
            return
        if not data:
            return
        first, last = _lines(address, len(data))
        done = 0
        for number in range(first, last + 1):
            line = self._lines.get(number) or self._fill(number)
            start = address + done - (number << LINE_SHIFT)
            part = data[done : done + LINE - start]
            line[start : start + len(part)] = part
            done += len(part)
            self._dirty[number] = None
        self._stir(first, last)

    # Maintenance by address; each returns how many lines it went through

    def clean(self, address: int, size: int) -> int:
        """Write dirty lines of a range back, and keep them: the range goes to the device."""
        if not size:
            return 0
        first, last = _lines(address, size)
        for number in range(first, last + 1):
            self._write_back(number)
        self._speculate(first, last)
        return last + 1 - first

    def invalidate(self, address: int, size: int) -> int:
        """Drop the lines of a range, dirty or not; those that it covers in part are written back before (as arm64's
        ``dcache_inval_poc``)."""
        if not size:
            return 0
        first, last = _lines(address, size)
        if address & LINE - 1:
            self._write_back(first)
        if address + size & LINE - 1:
            self._write_back(last)
        for number in range(first, last + 1):
            self._lines.pop(number, None)
            self._dirty.pop(number, None)
        return last + 1 - first

    def discard(self, address: int, size: int) -> int:
        """:meth:`invalidate` a range that goes to the device."""
        count = self.invalidate(address, size)
        if count:
            self._speculate(*_lines(address, size))
        return count

    def flush(self, address: int, size: int) -> int:
        """Write dirty lines of a range back, and drop all of them."""
        first, last = _lines(address, size)
        for number in range(first, last + 1):
            self._evict(number)
        return last + 1 - first

    def set_uncached(self, address: int, size: int) -> None:
        """From now on accesses to these frames go to memory; nothing of them is cached, see :meth:`flush`."""
        self._uncached.update(_frames(address, size))

    def set_cached(self, address: int, size: int) -> None:
        """These frames are ordinary memory again."""
        self._uncached.difference_update(_frames(address, size))

    # For who looks

    def peek(self, address: int, length: int) -> bytes:
        """What a load would return, without one."""
        data = bytearray(self._platform.read(address, length))
        if length and address >> FRAME_SHIFT not in self._uncached:
            first, last = _lines(address, length)
            for number in range(first, last + 1):
                line = self._lines.get(number)
                if line is not None:
                    start = (number << LINE_SHIFT) - address
                    data[max(0, start) : start + LINE] = line[max(0, -start) : length - start]
        return bytes(data)

    def uncached(self, address: int) -> bool:
        """Whether accesses at an address go to memory."""
        return address >> FRAME_SHIFT in self._uncached

    def first_dirty(self, address: int, size: int) -> int | None:
        """Address of the first line of a range that memory lacks the CPU's bytes of, or None."""
        first, last = _lines(address, size)
        for number in range(first, last + 1):
            if number in self._dirty:
                return number << LINE_SHIFT
        return None

    # What the cache does

    def _fill(self, number: int) -> bytearray:
        line = self._lines[number] = bytearray(self._platform.read(number << LINE_SHIFT, LINE))
        return line

    def _write_back(self, number: int) -> None:
        if number in self._dirty:
            del self._dirty[number]
            self._platform.write(number << LINE_SHIFT, self._lines[number])

    def _evict(self, number: int) -> None:
        self._write_back(number)
        self._lines.pop(number, None)

    def _stir(self, first: int, last: int) -> None:
        """After an access, by itself: more often than not nothing."""
        choice = self._random.randrange(12)
        if choice > 5:
            return
        number = self._random.randint(first, last)
        if choice == 0:
            self._spontaneous_eviction(number)
        elif choice == 1:
            self._spontaneous_write_back(number)
        elif choice == 2:
            self._later(self._spontaneous_write_back, number)
        elif choice == 3:
            self._fetch(last + 1)
        elif choice == 4:
            self._spontaneous_eviction(next(iter(self._lines)))
        elif self._dirty:
            self._spontaneous_write_back(next(iter(self._dirty)))

    def _speculate(self, first: int, last: int) -> None:
        """While a range is the device's: fetch lines of it, most of all the first, where the headers will be."""
        for _ in range(self._random.randrange(3)):
            number = first if self._random.randrange(2) else self._random.randint(first, last)
            if self._random.randrange(2):
                self._fetch(number)
            else:
                self._later(self._fetch, number)

    def _later(self, act: Callable[[int], None], number: int) -> None:
        decade = self._random.randint(_SOONEST_DECADE, _LATEST_DECADE)
        self._platform.at(self._platform.now + self._random.randint(1, 10**decade), lambda: act(number))

    def _spontaneous_eviction(self, number: int) -> None:
        self.evictions += 1
        self._evict(number)

    def _spontaneous_write_back(self, number: int) -> None:
        if number in self._dirty:
            self.write_backs += 1
            self._write_back(number)

    def _fetch(self, number: int) -> None:
        cached = number << LINE_SHIFT >> FRAME_SHIFT not in self._uncached
        if cached and number < self._end and number not in self._lines:
            self.fetches += 1
            self._fill(number)


def _lines(address: int, size: int) -> tuple[int, int]:
    return address >> LINE_SHIFT, address + size - 1 >> LINE_SHIFT


def _frames(address: int, size: int) -> range:
    return range(address >> FRAME_SHIFT, (address + size - 1 >> FRAME_SHIFT) + 1)
