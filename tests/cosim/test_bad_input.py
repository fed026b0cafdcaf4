# SPDX-License-Identifier: BSD-2-Clause
"""Wrong descriptors, rings, doorbells and register accesses on the whole machine: each ends in an error that software
can read, in the broken queue alone."""

from typing import Any

import pytest

from sim.backends.base import launch
from sim.config import preset
from sim.host.link_config import LINK_PRESETS
from tests.cosim.hostile import CASES

HOSTILE = "tests.cosim.hostile"
STOPPED = {
    "fill length 0": ("rx0", "DESCRIPTOR_LENGTH"),
    "tx length 0": ("tx0", "DESCRIPTOR_LENGTH"),
    "tx type 0": ("tx0", "DESCRIPTOR_TYPE"),
    "fill doorbell": ("rx0", "DOORBELL"),
    "tx doorbell": ("tx0", "DOORBELL"),
    "fill size": ("rx0", "RING_SIZE"),
    "tx completion size": ("tx0", "RING_SIZE"),
    "fill base": ("rx0", "RING_BASE"),
    "fill ring outside": ("rx0", "RING_READ"),
    "tx ring outside": ("tx0", "RING_READ"),
}
OUTSIDE = ("rx completions outside", "tx completions outside", "fill address outside")


@pytest.fixture(scope="module")
def posted() -> dict[str, Any]:
    """All cases behind a PCIe link, where writes are posted."""
    return launch("verilator", preset("10g"), f"{HOSTILE}:broken", list(CASES))


@pytest.fixture(scope="module")
def on_chip() -> dict[str, Any]:
    """The addresses outside of memory where acknowledgements come from memory."""
    return launch("amaranth", preset("10g", link=LINK_PRESETS["on-chip"]), f"{HOSTILE}:broken", list(OUTSIDE))


def others_go_on(seen: dict[str, Any], stopped: str | None = None) -> None:
    """Queue 1 received and sent, and so did the other direction of queue 0; every frame is accounted for."""
    for direction in ("rx0", "tx0", "rx1", "tx1"):
        if direction != stopped:
            assert seen[direction] == ["ENABLED", "NONE"], direction
    assert seen["received"] == [True, "NONE"]
    assert seen["sent"].count(1) == 1
    counters = seen["counters"]
    dropped = sum(value for name, value in counters.items() if "drop_" in name)
    assert counters["rx.frames"] == 2
    assert counters.get("0.counters.rx_packets", 0) + counters.get("1.counters.rx_packets", 0) + dropped == 2


def test_without_an_error_both_queues_receive_and_send(posted: dict[str, Any]) -> None:
    seen = posted["nothing"]
    others_go_on(seen)
    assert (seen["rx_error"], seen["tx_error"], seen["refused"], seen["posted_errors"]) == ("NONE", "NONE", [], 0)
    assert sorted(seen["sent"]) == [0, 1]


@pytest.mark.parametrize("case", STOPPED)
def test_a_wrong_ring_or_descriptor_stops_its_direction_alone(posted: dict[str, Any], case: str) -> None:
    direction, reason = STOPPED[case]
    seen = posted[case]
    assert seen[direction] == ["ERROR", reason]
    others_go_on(seen, direction)
    if direction == "rx0":
        assert seen["counters"]["0.counters.drop_queue_disabled"] == 1
        assert seen["rx_error"] is None
    else:
        assert seen["sent"] == [1]
        assert seen["tx_error"] is None
    assert seen["refused"] == [], "doorbells of a direction that does not run are ignored"


@pytest.mark.parametrize("case", OUTSIDE)
def test_posted_writes_outside_of_memory_are_counted_by_the_host(posted: dict[str, Any], case: str) -> None:
    seen = posted[case]
    others_go_on(seen)
    assert seen["posted_errors"] >= 1
    assert sorted(seen["sent"]) == [0, 1]
    assert seen["rx_error"] == (None if case == "rx completions outside" else "NONE")


def test_acknowledged_writes_outside_of_memory_are_reported_in_their_completion(on_chip: dict[str, Any]) -> None:
    seen = on_chip["fill address outside"]
    others_go_on(seen)
    assert seen["rx_error"] == "WRITE_FAULT"
    assert seen["counters"]["0.counters.rx_write_fault"] == 1
    assert seen["posted_errors"] == 0


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_acknowledged_completions_outside_of_memory_stop_their_queue(on_chip: dict[str, Any], direction: str) -> None:
    seen = on_chip[f"{direction} completions outside"]
    assert seen[f"{direction}0"] == ["ERROR", "RING_WRITE"]
    others_go_on(seen, f"{direction}0")


def test_a_frame_that_cannot_be_read_is_not_sent_and_says_so(posted: dict[str, Any]) -> None:
    seen = posted["tx address outside"]
    others_go_on(seen)
    assert seen["sent"] == [1]
    assert seen["tx_error"] == "READ_FAULT"
    assert seen["counters"]["0.counters.tx_read_fault"] == 1


def test_accesses_that_no_register_takes_are_named() -> None:
    seen = launch("verilator", preset("10g"), f"{HOSTILE}:registers")
    unmapped = ["0x300, where no register is", "0x2ff8, where no register is"]
    status = ["status", "rx_status of queue 1"]
    assert seen["refused"] == [unmapped[0], *status, unmapped[1], "rx_fill_size of queue 1"]
    assert (seen["unmapped"], seen["write only"], seen["works"], seen["read errors"]) == (True, True, True, 2)


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_the_driver_names_the_queue_that_stopped_and_goes_on_with_the_other(direction: str) -> None:
    seen = launch("verilator", preset("10g", access_log=True), f"{HOSTILE}:driven", direction)
    [[queue, *what]] = seen["faults"]
    assert what == [direction, "DESCRIPTOR_LENGTH"]
    message = (
        f"The device reported an error: queue {queue} {direction} stopped with DESCRIPTOR_LENGTH: a descriptor has"
    )
    assert seen["message"].startswith(message)
    assert seen["received"][1 - queue] == seen["offered"][1 - queue] > 50
    assert sum(seen["received"]) + seen["dropped"] == seen["arrived"] == 400
    assert (seen["dropped"] > 0) == (direction == "rx")
    assert seen["left"] == [0, 0]
