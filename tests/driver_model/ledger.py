# SPDX-License-Identifier: BSD-2-Clause
"""A script's account: what counters must say after each of its steps, derived by hand."""

from collections import Counter
from collections.abc import Callable, Mapping


class Ledger:
    """What must have been counted so far.

    Parameters
    ----------
    counted : what has been, by name; what it does not name is 0
    """

    def __init__(self, counted: Callable[[], Mapping[str, int]]) -> None:
        self._counted = counted
        self._total: Counter[str] = Counter()

    def step(self, **more: int) -> None:
        """So much more must have been counted, and nothing else."""
        self._total.update(more)
        assert {name: value for name, value in self._counted().items() if value} == dict(self._total), more
