# SPDX-License-Identifier: BSD-2-Clause
"""What an experiment is: a question, a sweep of runs, and rows made from what the runs measured."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sim.config import MachineConfig
from sim.experiments.settings import Setting
from sim.report import Column, Row
from sim.run import Measurement, RunConfig


@dataclass(frozen=True)
class Case:
    """One run of a sweep: what was varied, for the result's rows, and the run."""

    varied: Mapping[str, Any]
    run: RunConfig

    @property
    def label(self) -> str:
        """The varied values, for progress."""
        return " ".join(str(value) for value in self.varied.values())


class Experiment(ABC):
    """A question that simulated cycles answer; one file and one instance each, listed in the registry."""

    name: ClassVar[str]  #: as on the command line
    question: ClassVar[str]  #: one line
    settings: ClassVar[Mapping[str, Setting]]  #: what ``--set`` can change besides the machine
    columns: ClassVar[Sequence[Column]]  #: of the printed table
    short: ClassVar[Mapping[str, str]]  #: settings of the short run whose waves are written

    @abstractmethod
    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """The sweep. ``capture`` is the file that traffic ``capture`` plays."""

    @abstractmethod
    def rows(self, machine: MachineConfig, case: Case, measured: Measurement) -> Sequence[Row]:
        """The figures of one case."""

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What must hold between cases, as rows of kind ``check``."""
        return ()
