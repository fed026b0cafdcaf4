# SPDX-License-Identifier: BSD-2-Clause
"""Runs an experiment: settings to cases, cases to one simulator, measurements to a result."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sim.backends.base import launch
from sim.config import MachineConfig, preset
from sim.experiments.base import Case, Experiment
from sim.experiments.settings import SettingError, changed, resolve
from sim.report import Result
from sim.run import Measurement
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
    cases: list[tuple[Case, Measurement]]


def machine_config(name: str, changes: Mapping[str, str]) -> MachineConfig:
    """The machine of a preset with some parameters changed. Raises ``ValueError`` that says what is allowed."""
    machine = preset(name)
    for key, text in changes.items():
        machine = changed(machine, key, text)
    return machine


@dataclass(frozen=True)
class Plan:
    """All that is to be run: checked, and nothing simulated yet."""

    machine: MachineConfig
    settings: Mapping[str, Any]
    capture: Path
    cases: Sequence[Case]


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
        machine = machine_config(preset_name, {key: text for key, text in given.items() if key not in own})
    except SettingError as error:
        raise SettingError(f"{error}; experiment {experiment.name} has {', '.join(experiment.settings)}") from None
    machine = replace(machine, access_log=bool(settings.get("checkers")))
    path = sample_capture(SAMPLE) if capture is None else capture
    read_capture(path)
    cases = experiment.cases(machine, settings, str(path))
    if capture is not None and all(case.run.traffic.capture is None for case in cases):
        raise SettingError(f"Capture {str(capture)!r} is given, but capture is not among the traffic of this run")
    for case in cases:
        case.run.check(machine)
    return Plan(machine, settings, path, cases)


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
    """Run all cases of :func:`plan` on one simulated machine, reset between them.

    Parameters
    ----------
    waves : file for waves of the whole run
    sent : capture file, pcap or pcapng, for the frames that leave in the only case
    """
    planned = plan(experiment, given, preset_name=preset_name, capture=capture)
    machine, settings, path, cases = planned.machine, planned.settings, planned.capture, planned.cases
    arguments: list[dict[str, Any]] = [{"label": case.label, "run": asdict(case.run)} for case in cases]
    if sent is not None:
        check_name(sent)
        if len(cases) != 1 or cases[0].run.verdict != "tx":
            verdicts = ", ".join(sorted({case.run.verdict for case in cases}))
            raise SettingError(
                f"What is sent is captured of one run with verdict tx, not of {len(cases)} with {verdicts}: set "
                f"strategies, verdicts and traffic to one each"
            )
        arguments[0]["sent"] = str(sent)
    raw = launch(backend, machine, "sim.run:run_cases", arguments, waves=waves)
    config = {
        "preset": preset_name,
        "backend": backend,
        "machine": _plain(asdict(machine)),
        "settings": _plain(settings),
        "capture": {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
    }
    measured = [Measurement.from_json(each) for each in raw["cases"]]
    return Sweep(
        machine, config, int(settings.get("seed", 0)), raw["profiles"], list(zip(cases, measured, strict=True))
    )


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
        result.rows += experiment.rows(sweep.machine, case, measured)
    result.rows += experiment.checks(result.rows)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
