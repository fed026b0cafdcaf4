# SPDX-License-Identifier: BSD-2-Clause
"""Every parameter of every preset has a name that ``--set`` takes, and a meaning."""

from dataclasses import dataclass, field, replace

import pytest

from hw.config import IOMMU_PRESETS
from sim.config import PRESETS, preset
from sim.experiments.settings import SettingError, changed
from sim.parameters import Parameter, allowed, parameters


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


@pytest.mark.parametrize(
    ("parameter", "takes"),
    [
        ("nic.queues", "1..16"),
        ("nic.data_width", "64, 128, 256, 512"),
        ("nic.rss", "on or off"),
        ("iommu.replacement", "not_recent, round_robin, random"),
        ("iommu.tlb_4k.sets", "a power of two in 1..4096"),
        ("link.latency_ns", "1..100000"),
        ("link.read_tags", "8..1024"),  # a page's reads, by max_read_request
    ],
)
def test_what_is_allowed_comes_from_the_checks(parameter, takes):
    assert allowed(replace(preset("10g"), iommu=IOMMU_PRESETS["10g"]), parameter) == takes


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_of_a_preset_says_what_is_allowed(name):
    machine = replace(preset(name), iommu=IOMMU_PRESETS[name])
    for parameter in parameters(machine):
        assert allowed(machine, parameter.name)


def test_a_parameter_without_a_check_is_a_mistake():
    with pytest.raises(ValueError, match="Parameter speed takes even -1"):
        allowed(Whole(), "speed")
