# SPDX-License-Identifier: BSD-2-Clause
"""All experiments, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from sim.experiments.base import Experiment
from sim.experiments.bulk import Bulk
from sim.experiments.carried_translation import CarriedTranslation
from sim.experiments.iotlb_window import IotlbWindow
from sim.experiments.latency import Latency
from sim.experiments.line_rate import LineRateExperiment
from sim.experiments.mvneta import Mvneta
from sim.experiments.one_core import OneCore
from sim.experiments.overload import Overload
from sim.experiments.pin_down import PinDown
from sim.experiments.protection import Protection
from sim.experiments.recycle_overload import RecycleOverload
from sim.experiments.settings import SettingError
from sim.experiments.skb import Skb
from sim.experiments.starvation import Starvation
from sim.experiments.strategies import Strategies

_ALL = (
    Strategies(),
    OneCore(),
    Bulk(),
    Skb(),
    Mvneta(),
    PinDown(),
    IotlbWindow(),
    Protection(),
    RecycleOverload(),
    CarriedTranslation(),
    LineRateExperiment(),
    Latency(),
    Overload(),
    Starvation(),
)
EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType({each.name: each for each in _ALL})


def experiment(name: str) -> Experiment:
    """An experiment. Raises :class:`~sim.experiments.settings.SettingError` for a name that does not exist."""
    if name not in EXPERIMENTS:
        raise SettingError(f"Experiment must be one of {', '.join(EXPERIMENTS)}, not {name!r}")
    return EXPERIMENTS[name]
