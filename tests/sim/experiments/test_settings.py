# SPDX-License-Identifier: BSD-2-Clause
from dataclasses import dataclass, field

import pytest

from hw.config import CacheConfig, IommuConfig, NicConfig
from sim.experiments.settings import Setting, SettingError, changed, resolve, split
from sim.host.dram_config import DramConfig
from sim.host.link_config import LinkConfig

SETTINGS = {
    "frames": Setting(100, "frames", low=1, high=1000),
    "verdicts": Setting(("drop", "tx"), "verdicts", choices=("drop", "tx", "pass")),
    "checkers": Setting(True, "checkers"),
    "timing": Setting("rate", "timing", choices=("rate", "capture")),
}


@dataclass(frozen=True)
class Machine:
    nic: NicConfig = field(default_factory=NicConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    dram: DramConfig = field(default_factory=DramConfig)
    iommu: IommuConfig | None = None
    memory_size: int = 1 << 26


def test_assignments_replace_defaults():
    given = split(["frames=0x10", "verdicts=pass+tx", "checkers=off", "frames=1_000"])
    assert resolve(SETTINGS, given) == {
        "frames": 1000,
        "verdicts": ("pass", "tx"),
        "checkers": False,
        "timing": "rate",
    }


def test_machine_parameters_by_path():
    machine = changed(Machine(), "nic.fetch_depth", "128")
    machine = changed(machine, "link", "gen4-x16")
    machine = changed(machine, "link.latency_ns", "150.5")
    machine = changed(machine, "memory_size", "0x800000")
    assert machine.nic.fetch_depth == 128
    assert (machine.link.rate_mbps, machine.link.latency_ns) == (227_400, 150.5)
    assert machine.memory_size == 1 << 23


def test_a_part_that_is_not_there_begins_with_its_defaults():
    machine = changed(changed(Machine(), "iommu.walks", "2"), "iommu.tlb_4k.ways", "3")
    assert machine.iommu == IommuConfig(walks=2, tlb_4k=CacheConfig(64, 3))
    assert changed(Machine(), "dram.walker_latency_ns", "70").dram.walker_latency_ns == 70.0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("frames", "set as key=value, not 'frames'"),
        ("=3", "set as key=value, not '=3'"),
        ("frames=0", "frames must be in 1..1000, not '0'"),
        ("frames=many", "frames must be an integer, not 'many'"),
        ("verdicts=drop+eat", "verdicts must be one of drop, tx, pass, not 'eat'"),
        ("checkers=yes", "checkers must be on or off, not 'yes'"),
        ("timing=slow", "timing must be one of rate, capture, not 'slow'"),
        ("colour=red", "no parameter 'colour'; there are frames, verdicts, checkers, timing"),
    ],
)
def test_refused_settings(assignment, message):
    with pytest.raises(SettingError, match=message):
        resolve(SETTINGS, split([assignment]))


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("speed", "1", "no parameter 'speed'; the machine has nic, link, dram, iommu, memory_size"),
        ("nic.speed", "1", "no parameter 'nic.speed'; nic has data_width"),
        ("nic", "fast", "has parts: set one of nic.data_width"),
        ("iommu.tlb_4k", "64", "^Parameter iommu.tlb_4k has parts: set one of iommu.tlb_4k.sets, iommu.tlb_4k.ways"),
        ("iommu.tlb_4k.lines", "64", "no parameter 'iommu.tlb_4k.lines'; iommu.tlb_4k has sets, ways"),
        ("iommu.tlb_4k.ways", "99", "^iommu.tlb_4k.ways must be an integer in 1..64, not 99"),
        ("iommu.walks", "four", "^Parameter iommu.walks must be an integer, not 'four'"),
        ("memory_size.low", "1", "has no parts, so not 'low' either"),
        ("nic.queues", "99", "^nic.queues must be an integer in 1..16, not 99"),
        ("link", "gen9", "Link must be one of gen3-x8, gen3-x16, gen4-x16, on-chip, not 'gen9'"),
        ("link.latency_ns", "long", "latency_ns must be a number, not 'long'"),
        ("link.wires", "1", "wires must be on or off, not '1'"),
    ],
)
def test_refused_machine_parameters(key, text, message):
    with pytest.raises(ValueError, match=message):
        changed(Machine(), key, text)
