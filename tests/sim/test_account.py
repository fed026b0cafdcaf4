# SPDX-License-Identifier: BSD-2-Clause
"""The account of a packet's cycles: by hand from made-up counts, and against what a run must have done."""

from dataclasses import asdict, replace
from fractions import Fraction

import pytest

from sim.account import STAGES, account_rows, stages
from sim.backends.base import launch
from sim.config import preset
from sim.host.link_config import link_preset
from sim.measurement import Measurement
from sim.run import RunConfig
from sim.traffic.source import Traffic

MACHINE = preset("10g")
RUN = RunConfig(Traffic("64"), cores=4, queues=2)
COUNTS = Measurement(
    clock_khz=156_250,
    core_khz=3_600_000,
    offered=50,
    delivered=40,
    dropped={"no_buffer": 10},
    lengths={60: 40},
    cycles=Fraction(560),
    operations={"mmio.write": (5, 64_000), "irq.entry": (2, 448_000)},
    statistics={"rx_bytes": 50 * 60, "rx_frames": 50, "tx_bytes": 0, "tx_frames": 0},
    accesses={(True, 2, 60): 40, (True, 0, 64): 10, (False, 0, 1024): 1},
)


def test_busy_cycles_by_hand():
    found = stages(MACHINE, RUN, COUNTS)
    lane = Fraction(57_880, 8 * 156_250) * 1000  # bytes in a cycle
    assert found == {
        "wire_rx": Fraction(50 * 84, 8 * 40),
        "wire_tx": 0,
        "axi_w": Fraction(40 * 8 + 10 * 8, 40),  # 2 + 60 bytes are still 8 beats
        "axi_r": Fraction(128, 40),
        "dram": Fraction(40 * 60 + 640 + 1024, 40) / Fraction(38_400_000_000, 156_250_000),
        # 24 bytes for each of 50 writes and two requests of 512 bytes, 28 for each interrupt
        "link_up": (40 * 84 + 10 * 88 + 2 * 24 + 2 * 28) / lane / 40,
        # four completions of 256 bytes with 20 more, 8 + 24 for each register write
        "link_down": (4 * 276 + 5 * 32) / lane / 40,
        "cpu": Fraction(512_000, 6400 * 2 * 40),  # two of the four cores have a queue
    }
    assert list(found) == list(STAGES)


def test_an_offset_can_take_another_beat_and_another_completion():
    found = stages(MACHINE, RUN, replace(COUNTS, accesses={(True, 5, 60): 40, (False, 48, 256): 40}))
    assert found["axi_w"] == 9
    alone = stages(MACHINE, RUN, replace(COUNTS, accesses={(True, 5, 60): 40, (False, 0, 256): 40}))
    assert found["link_down"] - alone["link_down"] == 20 / MACHINE.link.bytes_per_cycle(156_250)


@pytest.mark.parametrize(
    ("machine", "accesses", "absent"),
    [
        (MACHINE, {}, {"axi_w", "axi_r", "dram", "link_up", "link_down"}),
        (replace(MACHINE, link=link_preset("on-chip")), COUNTS.accesses, {"link_up", "link_down"}),
    ],
)
def test_what_was_not_counted_is_absent(machine, accesses, absent):
    assert STAGES.keys() - stages(machine, RUN, replace(COUNTS, accesses=accesses)).keys() == absent


def test_the_busiest_part_is_named():
    rows = {row.name: row.value for row in account_rows({}, MACHINE, RUN, COUNTS)}
    assert rows["busiest"] == "wire in"
    assert rows["busiest_share"] == 100 * rows["stage.wire_rx"] / 14


def test_cores_work_outside_of_the_measured_time_too():
    work = {"page.alloc": (40, 840 * 6400 * 2)}  # of two cores, in a run of 560 cycles
    rows = {row.name: row.value for row in account_rows({}, MACHINE, RUN, replace(COUNTS, operations=work))}
    assert rows["busiest"] == "CPU"
    assert rows["busiest_share"] == 150


def test_a_flood_at_line_rate_is_bound_by_the_wire():
    config = RunConfig(Traffic("64", frames=1500, flows=8))
    machine = replace(MACHINE, access_log=True)
    result = launch("verilator", machine, "sim.run:run_cases", [{"label": "test", "run": asdict(config)}])
    measured = Measurement.from_json(result["cases"][0])
    written = sum(count * length for (is_write, _, length), count in measured.accesses.items() if is_write)
    assert written == 1500 * (60 + 16)  # each frame and its completion
    found = stages(machine, config, measured)
    assert found["wire_rx"] == Fraction(21, 2)
    assert 8 + Fraction(2) <= found["axi_w"] < 8 + 4  # completions of 16 bytes, at best four to a burst
    assert found["axi_r"] == pytest.approx(2, rel=0.1)  # descriptors of 16 bytes
    assert max(found.values()) == found["wire_rx"]
