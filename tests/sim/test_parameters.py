# SPDX-License-Identifier: BSD-2-Clause
"""Every parameter of every preset has a name that ``--set`` takes, and a meaning."""

from dataclasses import dataclass, field, replace

import pytest

from hw.config import IOMMU_PRESETS
from sim.config import PRESETS, preset
from sim.experiments.settings import SettingError, changed
from sim.parameters import Parameter, parameters


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes
    ----------
    size, count : of ``both``, in bytes
        and more
    """

    size: int = 1
    count: int = 2


@dataclass(frozen=True)
class Whole:
    """A whole.

    Attributes
    ----------
    part : its part
    speed : in cycles

    Not : an attribute
    """

    part: Part = field(default_factory=Part)
    speed: int = 3


def test_meanings_come_from_docstrings():
    assert list(parameters(Whole())) == [
        Parameter("part.size", 1, "of both, in bytes and more"),
        Parameter("part.count", 2, "of both, in bytes and more"),
        Parameter("speed", 3, "in cycles"),
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_of_a_preset_is_known_to_set(name):
    machine = replace(preset(name), iommu=IOMMU_PRESETS[name])
    for parameter in parameters(machine):
        assert parameter.meaning
        try:
            changed(machine, parameter.name, "no value")
        except SettingError as error:
            assert "There is no parameter" not in str(error)
        except (ValueError, TypeError):
            pass
