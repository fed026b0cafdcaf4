# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine with its IOMMU: every mode delivers, invalidates what it must and no more, and both simulators
agree; what the IOMMU refuses ends a run with the reason."""

import random
from dataclasses import asdict
from functools import cache
from typing import Any
from unittest import mock

import pytest

from driver_model.drivers.strategies import STRATEGIES, hardware_pools
from hw.config import CacheConfig, IommuConfig
from sim import scenario
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.host.mailbox import MailboxClient
from sim.iommu_use import DEVICE_ID
from sim.measurement import Measurement
from sim.run import IOMMU_MODES, RunConfig
from sim.scenario import RunError, Scenario
from sim.traffic.source import Traffic
from tests.sim.test_machine_iommu import collect

MACHINE = preset("10g", iommu=IommuConfig(), access_log=True)
MODES = IOMMU_MODES[1:]
CHOSEN = tuple(name for name in STRATEGIES if not hardware_pools(name))
FRAMES = 600
TINY = CacheConfig(1, 1)
#: Short of everything, so that nothing stays cached, everything waits, and whatever can happen does.
SHORT = preset(
    "10g",
    iommu=IommuConfig(
        tlb_4k=CacheConfig(2, 1),
        tlb_64k=TINY,
        tlb_2m=TINY,
        tlb_1g=TINY,
        walk_cache_1=TINY,
        walk_cache_2=TINY,
        walk_cache_3=TINY,
        contexts=1,
        walks=2,
        writes=2,
        write_beats=64,
        reads=2,
        outstanding=4,
        counters=1,
        vectors=1,
    ),
    stalls=True,
    access_log=True,
)
SEEDS = range(6)


@cache
def measured() -> dict[tuple[str, str, str], Measurement]:
    """All modes with all strategies, from one simulator."""
    chosen = [(mode, strategy, verdict) for mode in MODES for strategy in CHOSEN for verdict in ("drop", "tx")]
    cases = [
        {
            "label": " ".join(case),
            "run": asdict(RunConfig(Traffic("imix", frames=FRAMES), strategy, verdict, ring=64, iommu=mode)),
        }
        for case in chosen
        for mode, strategy, verdict in [case]
    ]
    found = launch("verilator", MACHINE, "sim.run:run_cases", cases)["cases"]
    return dict(zip(chosen, map(Measurement.from_json, found), strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", CHOSEN)
def test_every_frame_goes_through_translation(mode: str, strategy: str) -> None:
    """The checker is on: whatever the device touches is mapped for it, at that time, at its physical address."""
    for verdict in ("drop", "tx"):
        counted = measured()[mode, strategy, verdict]
        assert counted.delivered + sum(counted.dropped.values()) == FRAMES
        assert counted.statistics["iommu_untranslated"] > counted.delivered
        assert counted.statistics["iommu_faults"] == 0


def test_page_pool_costs_no_invalidation_in_any_mode() -> None:
    for mode in MODES:
        counted = measured()[mode, "page_pool", "drop"].statistics
        assert counted["iommu_page_invalidations"] == counted["iommu_space_invalidations"] == 0


def test_strict_invalidates_each_page_and_lazy_all_at_once() -> None:
    strict = measured()["strict", "page_per_packet", "drop"]
    assert strict.statistics["iommu_page_invalidations"] == strict.statistics["iommu_unmaps"] >= strict.delivered
    assert strict.statistics["iommu_fences"] >= strict.delivered
    lazy = measured()["lazy", "page_per_packet", "drop"]
    assert lazy.statistics["iommu_page_invalidations"] == 0
    assert 1 <= lazy.statistics["iommu_space_invalidations"] <= 1 + lazy.statistics["iommu_unmaps"] // 250
    passthrough = measured()["passthrough", "page_per_packet", "drop"]
    assert passthrough.statistics["iommu_fences"] == 0


def test_protection_costs_cpu_cycles_in_the_order_of_the_modes() -> None:
    spent = {
        mode: sum(ps for _, ps in measured()[mode, "page_per_packet", "drop"].operations.values())
        / measured()[mode, "page_per_packet", "drop"].delivered
        for mode in MODES
    }
    assert spent["passthrough"] < spent["lazy"] < spent["strict"]


def cycles(backend: Backend, machine: MachineConfig, mode: str) -> list[Any]:
    """A short run: what was counted, and every access to memory."""
    run = Scenario(backend, machine, RunConfig(Traffic("64", frames=12), "page_per_packet", "tx", ring=8, iommu=mode))
    counted = run.run()
    return [counted.as_json(), backend.cycle, [[frame.first, frame.last] for frame in run.sent]]


def test_both_simulators_agree_on_every_cycle() -> None:
    found = [launch(backend, MACHINE, f"{__name__}:cycles", "strict") for backend in ("verilator", "amaranth")]
    assert found[0] == found[1]


def refused(backend: Backend, machine: MachineConfig, argument: None) -> str:
    """The end of a run whose NIC says that it is another device."""
    config = RunConfig(Traffic("64", frames=20), ring=16, iommu="strict")
    with mock.patch.object(scenario, "DEVICE_ID", DEVICE_ID + 1), pytest.raises(RunError) as error:
        Scenario(backend, machine, config).run()
    return str(error.value)


def test_an_access_that_is_refused_ends_the_run_with_the_record() -> None:
    message = launch("verilator", MACHINE, f"{__name__}:refused")
    assert message.startswith("The IOMMU refused ")
    assert f"device {DEVICE_ID + 1:#x}, UNTRANSLATED_READ at " in message
    assert "DIRECTORY_INVALID" in message


def storm(backend: Backend, machine: MachineConfig, seeds: list[int]) -> list[dict[str, Any]]:
    """A run for each seed, held back at random."""
    results = []
    for index, seed in enumerate(seeds):
        if index:
            backend.reset()
        rng = random.Random(seed)
        run = RunConfig(
            Traffic(rng.choice(("imix", "64", "64-1518")), frames=80, flows=8, queues=2, load="0.3", seed=seed),
            rng.choice(CHOSEN),
            rng.choice(("drop", "tx", "pass")),
            cores=2,
            queues=2,
            ring=rng.choice((16, 64)),
            iommu=MODES[seed % len(MODES)],
        )
        play = Scenario(backend, machine, run)
        play.platform.set_stalls(rng.choice((40, 100, 160)), seed)
        counted = play.run()
        results.append({"delivered": counted.delivered, "dropped": sum(counted.dropped.values())})
    return results


@cache
def storms() -> list[dict[str, Any]]:
    return launch("verilator", SHORT, f"{__name__}:storm", list(SEEDS))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_iommu_under_stalls_loses_and_reorders_nothing(seed: int) -> None:
    """The run itself compares every frame's bytes and order, and the checker every access."""
    result = storms()[seed]
    assert result["delivered"] + result["dropped"] == 80
    assert result["delivered"]


def off(backend: Backend, machine: MachineConfig, argument: None) -> list[Any]:
    """What the registers say after reset."""
    base = machine.iommu_registers
    assert base is not None
    client = MailboxClient(backend)
    client.read_register(base)
    client.read_register(base + 16)
    return [[event[2], event[3]] for event in collect(backend, client, 2)]


def test_after_reset_the_directory_is_off() -> None:
    (capabilities, error), directory = launch("amaranth", MACHINE, f"{__name__}:off")
    assert (capabilities & 0xFF, error) == (0x10, False)
    assert directory == [0, False]
