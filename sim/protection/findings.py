# SPDX-License-Identifier: BSD-2-Clause
"""What a run of the experiment on protection found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Findings:
    """Named numbers.

    Attributes
    ----------
    values : integers by name; times in picoseconds
    """

    values: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; :meth:`from_json` takes them."""
        return dict(self.values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Findings":
        """The findings that :meth:`as_json` gave these values for."""
        return cls(values)
