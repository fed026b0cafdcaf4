# SPDX-License-Identifier: BSD-2-Clause
"""Runs where addresses come about otherwise: every buffer bounced, or each mapping a hypercall."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from driver_model.drivers.strategies.page_pool import PagePoolStrategy
from driver_model.net.collector import CollectorError
from sim.backends.base import Backend, launch
from sim.config import MachineConfig, preset
from sim.measurement import Measurement
from sim.run import RunConfig, run_cases
from sim.traffic.source import Traffic

HERE = "tests.sim.test_dma_use"
MACHINE = replace(preset("10g"), access_log=True)
FRAMES = 300
RING = 32
STRATEGIES = ("page_per_packet", "page_flip", "fragments", "copybreak", "page_pool", "bypass")


def measure(*runs: RunConfig) -> list[Measurement]:
    cases = [{"label": "test", "run": asdict(run)} for run in runs]
    measured = launch("verilator", MACHINE, "sim.run:run_cases", cases)
    return [Measurement.from_json(each) for each in measured["cases"]]


def config(strategy: str, dma: str, **given: Any) -> RunConfig:
    defaults = {"ring": RING, "verdict": "pass"}
    return RunConfig(
        Traffic("300", frames=FRAMES, flows=4, load="0.05"), strategy=strategy, dma=dma, **defaults | given
    )


def forgetful(backend: Backend, machine: MachineConfig, case: dict[str, Any]) -> str:
    """Job: a run of a driver that hands up what it did not sync; how its first frame differs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PagePoolStrategy, "received", lambda strategy, buffer, length: buffer)
        try:
            run_cases(backend, machine, [case])
        except CollectorError as error:
            return str(error)
    return ""


def test_where_every_buffer_bounces_each_frame_is_copied_once_and_arrives_whole() -> None:
    for strategy, found in zip(STRATEGIES, measure(*(config(each, "bounce") for each in STRATEGIES)), strict=True):
        counts = found.statistics
        assert (found.delivered, found.dropped, counts["swiotlb_full"]) == (FRAMES, {}, 0), strategy
        if strategy == "bypass":  # its memory is shared with the device for good
            assert counts["swiotlb_bounced"] == 0
        elif strategy == "page_pool":  # mapped once, synced each time
            assert counts["swiotlb_bounced"] <= FRAMES
            assert counts["swiotlb_copied_bytes"] >= FRAMES * 296
        elif strategy == "page_per_packet":
            assert counts["swiotlb_bounced"] >= FRAMES + RING - 1


def test_hypercalls_are_paid_for_each_packet_or_once_for_each_page() -> None:
    each, once = measure(*(config(strategy, "hypercall") for strategy in ("page_per_packet", "page_pool")))
    assert each.statistics["hypercall_maps"] == each.statistics["hypercall_unmaps"] >= FRAMES
    assert once.statistics["hypercall_maps"] == once.statistics["hypercall_unmaps"] < FRAMES
    assert each.operations["dma.hypercall_map"][0] >= FRAMES - RING
    assert "dma.hypercall_unmap" not in once.operations  # while packets come


def test_a_driver_without_a_sync_sees_what_was_there_before_where_buffers_bounce() -> None:
    case = {"label": "test", "run": asdict(config("page_pool", "bounce"))}
    assert "(0x02 sent, 0x00 received)" in launch("verilator", MACHINE, f"{HERE}:forgetful", case)
