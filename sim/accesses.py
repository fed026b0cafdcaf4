# SPDX-License-Identifier: BSD-2-Clause
"""The device's accesses to memory, whole, however often the backend was asked for them."""

from collections.abc import Iterable

from sim.backends.base import Access


class AccessJoiner:
    """Put together what :meth:`sim.backends.base.Backend.accesses` gave in two parts because it was called in between.

    Parameters
    ----------
    word_bytes : bytes of a beat
    """

    def __init__(self, word_bytes: int) -> None:
        self._word_bytes = word_bytes
        self._open: dict[bool, Access] = {}  # by direction, the last, which may go on

    def add(self, accesses: Iterable[Access]) -> list[Access]:
        """Take what came since the last call; returns the accesses that are known to be whole."""
        whole = []
        for access in accesses:
            last = self._open.get(access.is_write)
            if last is not None and self._goes_on(last, access):
                access = last._replace(length=last.length + access.length)
            elif last is not None:
                whole.append(last)
            self._open[access.is_write] = access
        return whole

    def rest(self) -> list[Access]:
        """The last of each direction: nothing more comes of them."""
        rest = list(self._open.values())
        self._open.clear()
        return rest

    def _goes_on(self, first: Access, second: Access) -> bool:
        stop = first.address + first.length
        beats = (stop - 1) // self._word_bytes - first.address // self._word_bytes + 1
        return second.address == stop and second.cycle == first.cycle + beats
