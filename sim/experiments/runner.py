# SPDX-License-Identifier: BSD-2-Clause
"""Runs an experiment: settings to cases, cases to one simulator, measurements to a result."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from driver_model.own import digest, is_own
from sim.backends.base import launch
from sim.backends.base import resolve as resolve_job
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import SettingError, changed, resolve
from sim.report import Result
from sim.traffic.capture import check_name, read_capture
from sim.traffic.sample import sample_capture

SAMPLE = Path("build") / "sample.pcapng"


@dataclass(frozen=True)
class Sweep:
    """All that was run, and what was measured."""

    machine: MachineConfig
    config: Mapping[str, Any]  #: for the result file
    seed: int
    profiles: Mapping[str, str]  #: digests by name
    cases: list[tuple[Case, Any]]  #: with what the experiment's job measured


def machine_config(name: str, changes: Mapping[str, str]) -> MachineConfig:
    """The machine of a preset with some parameters changed. Raises ``ValueError`` that says what is allowed."""
    return _changed(preset(name), changes)


def _changed(machine: MachineConfig, changes: Mapping[str, str]) -> MachineConfig:
    for key, text in changes.items():
        machine = changed(machine, key, text)
    return machine


@dataclass(frozen=True)
class Plan:
    """All that is to be run: checked, and nothing simulated yet."""

    machine: MachineConfig
    settings: Mapping[str, Any]
    capture: Path | None  #: None where nothing arrives on the wire
    cases: Sequence[Case]

    def machine_of(self, case: Case) -> MachineConfig:
        """Where a case runs."""
        return self.machine if case.machine is None else case.machine


def plan(
    experiment: Experiment, given: Mapping[str, str], *, preset_name: str = "10g", capture: Path | None = None
) -> Plan:
    """What an experiment runs.

    Parameters
    ----------
    given : settings of the experiment by name, and of the machine (``nic.fetch_depth``, ``link``, ``dram.outstanding``)
    capture : file for traffic ``capture``; without one, the sample is made and used

    Raises ``ValueError`` for anything that is not allowed.
    """
    own = {key: text for key, text in given.items() if key in experiment.settings}
    settings = resolve(experiment.settings, own)
    try:
        changes = {key: text for key, text in given.items() if key not in own}
        machine = _changed(experiment.machine(preset_name), changes)
    except SettingError as error:
        raise SettingError(f"{error}; experiment {experiment.name} has {', '.join(experiment.settings)}") from None
    machine = replace(machine, access_log=bool(settings.get("checkers", machine.access_log)))
    path = capture
    if path is None and "traffic" in settings:
        path = sample_capture(SAMPLE)
    if path is not None:
        read_capture(path)
    planned = Plan(machine, settings, path, experiment.cases(machine, settings, str(path)))
    played = "traffic" in settings and any(case.run.traffic.capture is not None for case in planned.cases)
    if capture is not None and not played:
        raise SettingError(f"Capture {str(capture)!r} is given, but capture is not among the traffic of this run")
    for case in planned.cases:
        case.run.check(planned.machine_of(case))
    return planned


def measure(
    experiment: Experiment,
    given: Mapping[str, str],
    *,
    preset_name: str = "10g",
    backend: str = "verilator",
    capture: Path | None = None,
    waves: Path | None = None,
    sent: Path | None = None,
) -> Sweep:
    """Run all cases of :func:`plan`, machine by machine, each reset between its cases.

    Parameters
    ----------
    waves : file for waves of the whole run
    sent : capture file, pcap or pcapng, for the frames that leave in the only case
    """
    planned = plan(experiment, given, preset_name=preset_name, capture=capture)
    settings, path, cases = planned.settings, planned.capture, planned.cases
    arguments: list[dict[str, Any]] = [{"label": case.label, "run": asdict(case.run)} for case in cases]
    if sent is not None:
        check_name(sent)
        verdicts = ", ".join(sorted({getattr(case.run, "verdict", "none") for case in cases}))
        if len(cases) != 1 or verdicts != "tx":
            raise SettingError(
                f"What is sent is captured of one run with verdict tx, not of {len(cases)} with {verdicts}: set "
                f"strategies, verdicts, traffic and iommu to one each"
            )
        arguments[0]["sent"] = str(sent)
    if waves is not None and not experiment.simulated:
        raise SettingError(f"Experiment {experiment.name} is software alone: it has no waves")
    groups: dict[MachineConfig, list[int]] = {}
    for number, case in enumerate(cases):
        groups.setdefault(planned.machine_of(case), []).append(number)
    if waves is not None and len(groups) > 1:
        raise SettingError(f"Waves are of one machine, and these {len(cases)} cases need {len(groups)}: choose fewer")
    measured: dict[int, Any] = {}
    profiles = dict(experiment.digests())
    for place, (machine, numbers) in enumerate(groups.items(), 1):
        if len(groups) > 1:
            print(f"Machine {place} of {len(groups)}: {len(numbers)} of {len(cases)} cases", file=sys.stderr)
        chosen = [arguments[number] for number in numbers]
        if experiment.simulated:
            raw = launch(backend, machine, experiment.job, chosen, waves=waves)
        else:
            raw = resolve_job(experiment.job)(None, machine, chosen)
        measured |= zip(numbers, map(experiment.measurement.from_json, raw["cases"]), strict=True)
        profiles |= raw["profiles"]
    config = {
        "preset": preset_name,
        "backend": backend,
        "machine": _plain(asdict(next(iter(groups)) if len(groups) == 1 else planned.machine)),
        "settings": _plain(settings),
    }
    if len(groups) > 1:
        config["machines"] = [
            {"cases": [cases[number].label for number in numbers], "machine": _plain(asdict(machine))}
            for machine, numbers in groups.items()
        ]
    if path is not None:
        config["capture"] = {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if own := {name: digest(name) for name in _names(settings) if is_own(name)}:
        config["own"] = own
    pairs = [(case, measured[number]) for number, case in enumerate(cases)]
    return Sweep(planned.machine, config, int(settings.get("seed", 0)), profiles, pairs)


def run_experiment(
    experiment: Experiment,
    given: Mapping[str, str],
    *,
    preset_name: str = "10g",
    backend: str = "verilator",
    capture: Path | None = None,
    waves: Path | None = None,
    sent: Path | None = None,
) -> Result:
    """Run all cases as :func:`measure` does, and make the rows of the result."""
    sweep = measure(
        experiment, given, preset_name=preset_name, backend=backend, capture=capture, waves=waves, sent=sent
    )
    result = Result(experiment.name, sweep.config, sweep.seed, profiles=sweep.profiles)
    for case, measured in sweep.cases:
        machine = sweep.machine if case.machine is None else case.machine
        result.rows += experiment.rows(machine, case, measured)
    result.rows += experiment.checks(result.rows)
    return result


def _names(settings: Mapping[str, Any]) -> list[str]:
    """All that has a name among what was set."""
    values = [value if isinstance(value, tuple) else (value,) for value in settings.values()]
    return [name for names in values for name in names if isinstance(name, str)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
