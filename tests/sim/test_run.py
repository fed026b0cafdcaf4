# SPDX-License-Identifier: BSD-2-Clause
"""Runs: what they refuse, what they measure, and that every frame is accounted for."""

import json
from dataclasses import asdict, replace
from fractions import Fraction

import pytest

from driver_model.net.skb.policy import POLICY_2016, NapiCache
from hw.abi.rings import LINE_BYTES
from hw.config import IommuConfig
from sim.backends.base import launch
from sim.config import preset
from sim.experiments.ceiling import ceilings
from sim.measurement import Measurement
from sim.run import RunConfig
from sim.traffic.sample import sample_capture
from sim.traffic.source import Traffic

MACHINE = preset("10g")
BULK_FREE = replace(POLICY_2016, napi_cache=NapiCache.BULK_FREE)


def run(config, machine=MACHINE):
    machine = replace(machine, access_log=config.checkers)
    cases = [{"label": "test", "run": asdict(config)}]
    return Measurement.from_json(launch("verilator", machine, "sim.run:run_cases", cases)["cases"][0])


def test_a_measurement_survives_json():
    measured = Measurement(
        clock_khz=156_250,
        core_khz=3_600_000,
        offered=10,
        delivered=8,
        dropped={"no_buffer": 2},
        lengths={60: 8},
        cycles=Fraction(169, 2),
        operations={"page.alloc": (8, 800_000)},
        statistics={"a": 1},
        accesses={(True, 0, 60): 8, (False, 0, 512): 1},
    )
    assert Measurement.from_json(json.loads(json.dumps(measured.as_json()))) == measured
    assert measured.cycles_per_packet == Fraction(169, 16)
    assert measured.cpu_cycles("page.alloc") == 360


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"strategy": "hope"},
            "strategy must be one of page_per_packet, .*, page_pool, hw_recycle, bypass, or FILE.py:CLASS, not 'hope'",
        ),
        ({"strategy": "hw_recycle"}, "strategy hw_recycle needs a hardware pool .* on this machine, not 0"),
        ({"verdict": "keep"}, "XDP program must be one of drop, tx, pass, redirect, none, or FILE.py:NAME, not 'keep'"),
        ({"cores": 0}, "cores must be in 1..16, not 0"),
        ({"moderation_count": 2}, "moderation_count = 2 needs moderation_cycles"),
        ({"ring": 100}, "ring must be a power of two in 8..32768, not 100"),
        ({"queues": 3}, "queues must be in 1..2 on this machine, not 3"),
        ({"ring": 16384}, "memory_size must be at least 134217728 for 1 rings of 16384 entries"),
        ({"traffic": Traffic(queues=2)}, "spread over 2 queues, but only 1 are in use"),
        ({"dma": "swiotlb"}, "dma must be one of direct, bounce, hypercall, not 'swiotlb'"),
        (
            {"dma": "bounce", "iommu": "lazy"},
            "dma must be direct where an IOMMU makes the addresses .lazy., not 'bounce'",
        ),
        ({"iommu": "deferred"}, "iommu must be one of none, passthrough, lazy, strict, not 'deferred'"),
        ({"iommu": "strict"}, "iommu must fit the machine, which is without an IOMMU, not 'strict'"),
    ],
)
def test_refused_runs(change, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**({"traffic": Traffic()} | change)).check(MACHINE)


def test_a_64_byte_flood_is_received_at_line_rate():
    measured = run(RunConfig(Traffic("64", frames=1500, flows=8)))
    assert not measured.dropped
    # Not exactly: the last of a few frames may wait a little longer for software than the first.
    assert Fraction(21, 2) <= measured.cycles_per_packet < Fraction(106, 10)


def test_translation_holds_line_rate_when_the_pages_fit_the_iotlb():
    """page_pool maps a page for each of 128 buffers once, in the first revolution of the ring."""
    machine = replace(MACHINE, iommu=IommuConfig())
    rates = {}
    for mode in ("passthrough", "strict"):
        measured = run(RunConfig(Traffic("64", frames=1500, flows=8), ring=128, iommu=mode), machine)
        assert not measured.dropped, mode
        assert Fraction(21, 2) <= measured.cycles_per_packet < Fraction(106, 10), mode
        rates[mode] = measured
    assert rates["passthrough"].statistics["iommu_tlb_miss"] < 32  # until the context is cached
    assert 128 <= rates["strict"].statistics["iommu_tlb_miss"] < 192


@pytest.mark.parametrize("verdict", ["drop", "tx", "pass"])
@pytest.mark.parametrize("strategy", ["page_per_packet", "page_pool"])
def test_imix_and_a_capture_arrive_byte_exact_whatever_the_strategy(tmp_path, strategy, verdict):
    imix = run(RunConfig(Traffic("imix", frames=240), strategy=strategy, verdict=verdict))
    assert (imix.delivered, dict(imix.lengths)) == (240, {60: 140, 590: 80, 1514: 20})
    capture = str(sample_capture(tmp_path / "sample.pcapng", connections=6))
    played = run(RunConfig(Traffic("capture", capture=capture), strategy=strategy, verdict=verdict))
    assert played.delivered == played.offered > 60


def test_two_queues_on_two_cores_and_frames_over_several_buffers():
    traffic = Traffic("64:8,9000:1", frames=180, flows=6, queues=2)
    measured = run(RunConfig(traffic, queues=2, cores=2, verdict="tx"))
    assert measured.delivered == 180
    assert measured.statistics["queue0_rx_packets"] == measured.statistics["queue1_rx_packets"] == 90


def test_overload_drops_are_counted_by_reason():
    measured = run(RunConfig(Traffic("64", frames=1200), strategy="page_per_packet", ring=64))
    assert set(measured.dropped) <= {"no_buffer", "completion_full", "overflow"}
    assert 0 < sum(measured.dropped.values()) == measured.offered - measured.delivered
    assert measured.cycles_per_packet > Fraction(21, 2)


@pytest.mark.parametrize("moderation", [0, 600])
@pytest.mark.parametrize("frames", [2, 20, 100])
def test_frames_that_leave_in_one_burst_are_not_faster_than_the_machine(frames, moderation):
    """All of a poll leave together, back to back; what they took begins with software's first look at one."""
    measured = run(RunConfig(Traffic("64", frames=frames), verdict="tx", moderation_cycles=moderation))
    assert measured.delivered == frames
    line = Traffic("64").line(MACHINE.nic.clock_khz)
    bounds = ceilings(MACHINE.nic, MACHINE.link, line, measured.lengths, transmit=True)
    assert measured.packets_per_second <= min(bounds.values())
    spent = sum(picoseconds for _, picoseconds in measured.operations.values())
    assert measured.cycles * MACHINE.cycle_ps >= spent, "the one core cannot have worked for longer"


def test_completions_of_two_queues_share_lines_when_they_wait_long_enough():
    """At half of line rate the fourth frame of a queue comes 126 cycles after the first."""
    traffic = Traffic("64", frames=200, flows=2, queues=2, load="0.5")
    lines = {}
    for cycles in (0, 64, 140, 20_000):
        measured = run(RunConfig(traffic, queues=2, cores=2, completion_cycles=cycles))
        assert (measured.delivered, measured.dropped) == (200, {})
        lines[cycles] = measured.accesses.get((True, 0, LINE_BYTES), 0)
    assert lines == {0: 0, 64: 0, 140: 50, 20_000: 50}


def test_frames_that_fill_no_line_come_when_their_completion_has_waited():
    measured = run(RunConfig(Traffic("64", frames=3), completion_cycles=65_535))
    assert measured.delivered == 3
    assert measured.accesses[True, 0, 48] == 1


def test_another_clock_and_the_first_bulk_free_are_the_runs_own():
    values = {"strategy": "page_flip", "verdict": "pass", "consumer": "forward", "skb": BULK_FREE, "ring": 64}
    traffic = Traffic("64", frames=300)
    fast, slow = (run(RunConfig(traffic, core_khz=khz, **values)) for khz in (4_000_000, 2_000_000))
    assert (fast.core_khz, slow.core_khz) == (4_000_000, 2_000_000)
    assert fast.packets_per_second > slow.packets_per_second
    first = run(RunConfig(traffic, detached_freelists=False, **values))
    default = run(RunConfig(traffic, **values))
    assert default.core_khz == 3_600_000
    assert first.operations["slab.free_slow"][0] > 2 * default.operations["slab.free_slow"][0]


@pytest.mark.parametrize(("khz", "kind"), [(-1, ValueError), (3.6e6, TypeError)])
def test_a_clock_that_is_none_is_refused(khz, kind):
    with pytest.raises(kind, match="core_khz must be"):
        RunConfig(Traffic("64"), core_khz=khz)
