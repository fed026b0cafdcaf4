# SPDX-License-Identifier: BSD-2-Clause
"""What an experiment is: a question, a sweep of runs, and rows made from what the runs measured."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sim.config import MachineConfig, preset
from sim.experiments.settings import Setting
from sim.measurement import Measurement
from sim.picture import Picture
from sim.report import Column, Row


@dataclass(frozen=True)
class Case:
    """One run of a sweep.

    Attributes
    ----------
    varied : what was varied, for the result's rows
    run : a dataclass with ``check(machine)``: :class:`sim.run.RunConfig`, or what the experiment's job takes
    machine : where it runs; None: on the sweep's machine
    """

    varied: Mapping[str, Any]
    run: Any
    machine: MachineConfig | None = None

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
    job: ClassVar[str] = "sim.run:run_cases"  #: makes the runs, as :func:`sim.run.run_cases` does
    simulated: ClassVar[bool] = True  #: on the machine; otherwise the job is software alone, and gets no backend
    explanations: ClassVar[Mapping[str, str]] = {}  #: why predictions do not agree, by the beginning of their names
    remarks: ClassVar[Sequence[str]] = ()  #: what else there is to say of the table, one paragraph each
    picture: ClassVar[Picture | None] = None  #: what ``--picture`` draws of the rows
    measurement: ClassVar[Any] = Measurement  #: class of what a run measured; has ``from_json``

    def machine(self, preset_name: str) -> MachineConfig:
        """The sweep's machine, before parameters are set by name."""
        return preset(preset_name)

    def digests(self) -> Mapping[str, str]:
        """Digests by name of what the experiment itself was fitted with, for the result."""
        return {}

    @abstractmethod
    def cases(self, machine: MachineConfig, settings: Mapping[str, Any], capture: str) -> Sequence[Case]:
        """The sweep. ``capture`` is the file that traffic ``capture`` plays."""

    @abstractmethod
    def rows(self, machine: MachineConfig, case: Case, measured: Any) -> Sequence[Row]:
        """The figures of one case."""

    def checks(self, rows: Sequence[Row]) -> Sequence[Row]:
        """What must hold between cases, as rows of kind ``check``."""
        return ()
