# SPDX-License-Identifier: BSD-2-Clause
"""What random worlds reached: outcomes by the modes of both stages."""

from collections import Counter

from tests.golden.model import Result

MODES = {None: "-", 0: "Bare", 8: "39", 9: "48"}


class Coverage:
    """Counts results by (first mode, second mode, cause); cause None is success."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int | None, int | None, int | None]] = Counter()

    def add(self, result: Result) -> None:
        cause = None if result.record is None else result.record.cause
        self.counts[result.first_mode, result.second_mode, cause] += 1

    def causes(self) -> set[int | None]:
        return {cause for _, _, cause in self.counts}

    def share(self) -> float:
        """Of successes."""
        return sum(count for (_, _, cause), count in self.counts.items() if cause is None) / self.counts.total()

    def table(self) -> str:
        """One line for each pair of modes."""
        causes = sorted(self.causes(), key=lambda cause: cause or 0)
        lines = ["first/second".ljust(14) + "".join(f"{cause or 'ok':>8}" for cause in causes)]
        for first, second in sorted({key[:2] for key in self.counts}, key=str):
            counts = "".join(f"{self.counts[first, second, cause]:>8}" for cause in causes)
            lines.append(f"{MODES[first]}/{MODES[second]}".ljust(14) + counts)
        return "\n".join(lines)
