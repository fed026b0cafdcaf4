# SPDX-License-Identifier: BSD-2-Clause
"""Accesses of the NIC that the IOMMU refuses: nothing of them happens, the NIC says so where it can know, the fault
queue always does, and the next packets and the other queue go on."""

from typing import Any

import pytest

from sim.backends.base import launch
from sim.config import preset
from sim.host.link_config import LINK_PRESETS
from tests.cosim.test_iommu_ordering import MACHINE
from tests.cosim.unmapped import CASES, COUNT, DEVICE, EDGE, HOLE, READ_ONLY
from tests.golden.tables import PAGE

JOB = "tests.cosim.unmapped:refused"
READ, WRITE = (["READ_PAGE", "UNTRANSLATED_READ", DEVICE], ["WRITE_PAGE", "UNTRANSLATED_WRITE", DEVICE])
#: What the fault queue says of each case: kind of access and address.
RECORDS = {
    "buffer": (WRITE, HOLE),
    "buffer read only": (WRITE, READ_ONLY),
    "buffer over the edge": (WRITE, EDGE + PAGE),
    "frame": (READ, HOLE),
    "frame over the edge": (READ, EDGE + PAGE),
    "fill ring": (READ, HOLE),
    "tx ring": (READ, HOLE),
    "rx completions": (WRITE, HOLE),
    "tx completions": (WRITE, HOLE),
}
BUFFERS = [name for name in CASES if name.startswith("buffer")]
FRAMES = [name for name in CASES if name.startswith("frame")]
GOOD = ["NONE"] * COUNT


@pytest.fixture(scope="module")
def posted() -> dict[str, Any]:
    """All cases behind a PCIe link: a write is acknowledged before the IOMMU sees it."""
    return launch("verilator", MACHINE, JOB, list(CASES))


@pytest.fixture(scope="module")
def on_chip() -> dict[str, Any]:
    """The refused writes where acknowledgements come from the IOMMU."""
    machine = preset("10g", link=LINK_PRESETS["on-chip"], iommu=MACHINE.iommu, memory_size=MACHINE.memory_size)
    return launch("verilator", machine, JOB, [*BUFFERS, "rx completions", "tx completions"])


def others_go_on(seen: dict[str, Any], stopped: str | None = None) -> None:
    """Queue 1 received and sent everything; the directions of queue 0 are enabled, but for one; and every frame that
    came is accounted for."""
    for direction in ("rx0", "tx0", "rx1", "tx1"):
        if direction != stopped:
            assert seen[direction] == ["ENABLED", "NONE"], direction
    assert (seen["received1"], seen["rx_errors1"], seen["tx_errors1"]) == ([True] * COUNT, GOOD, GOOD)
    assert [number for queue, number in seen["sent"] if queue == 1] == list(range(COUNT))
    counters = seen["counters"]
    dropped = sum(value for name, value in counters.items() if "drop_" in name)
    assert counters["rx.frames"] == 2 * COUNT
    assert sum(counters.get(f"{queue}.counters.rx_packets", 0) for queue in range(2)) + dropped == 2 * COUNT


def check_records(seen: dict[str, Any], case: str, count: int | None = None) -> None:
    """Each is of the kind that it must be, and the first of the address; so many, if that is known."""
    kind, address = RECORDS[case]
    records = seen["records"]
    assert [record[:3] for record in records] == [kind] * (len(records) if count is None else count)
    assert records[0][3] == address


def test_where_everything_is_mapped_nothing_is_refused(posted: dict[str, Any]) -> None:
    seen = posted["nothing"]
    others_go_on(seen)
    assert (seen["received0"], seen["rx_errors0"], seen["tx_errors0"]) == ([True] * COUNT, GOOD, GOOD)
    assert sorted(seen["sent"]) == [[queue, number] for queue in range(2) for number in range(COUNT)]
    assert seen["records"] == []


@pytest.mark.parametrize("case", BUFFERS)
def test_of_a_posted_write_only_the_fault_queue_tells(posted: dict[str, Any], case: str) -> None:
    seen = posted[case]
    others_go_on(seen)
    check_refused_frame(seen, case)
    assert seen["rx_errors0"] == GOOD
    assert "0.counters.rx_write_fault" not in seen["counters"]


@pytest.mark.parametrize("case", BUFFERS)
def test_an_acknowledged_write_is_reported_in_its_completion(on_chip: dict[str, Any], case: str) -> None:
    seen = on_chip[case]
    others_go_on(seen)
    check_refused_frame(seen, case)
    assert seen["rx_errors0"] == ["WRITE_FAULT", "NONE", "NONE"]
    assert seen["counters"]["0.counters.rx_write_fault"] == 1


def check_refused_frame(seen: dict[str, Any], case: str) -> None:
    """No byte of the burst was written, and the frames behind it arrived."""
    check_records(seen, case, 1)
    allowed = range(8, 64, 8) if case == "buffer over the edge" else ()
    assert seen["written"] == list(allowed), "words of the frame that are in memory"
    assert seen["received0"] == [False, True, True]


@pytest.mark.parametrize("case", FRAMES)
def test_a_frame_that_cannot_be_read_is_not_sent_and_the_next_are(posted: dict[str, Any], case: str) -> None:
    seen = posted[case]
    others_go_on(seen)
    check_records(seen, case, 1)
    assert [number for queue, number in seen["sent"] if queue == 0] == [1, 2]
    assert seen["tx_errors0"] == ["READ_FAULT", "NONE", "NONE"]
    assert seen["counters"]["0.counters.tx_read_fault"] == 1


@pytest.mark.parametrize(("case", "direction"), [("fill ring", "rx0"), ("tx ring", "tx0")])
def test_a_ring_that_cannot_be_read_stops_its_direction_alone(
    posted: dict[str, Any], case: str, direction: str
) -> None:
    seen = posted[case]
    others_go_on(seen, direction)
    check_records(seen, case)
    assert seen[direction] == ["ERROR", "RING_READ"]
    if direction == "rx0":
        assert seen["counters"]["0.counters.drop_queue_disabled"] == COUNT
    else:
        assert {queue for queue, _ in seen["sent"]} == {1}


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_of_posted_completions_only_the_fault_queue_tells(posted: dict[str, Any], direction: str) -> None:
    seen = posted[f"{direction} completions"]
    others_go_on(seen)
    check_records(seen, f"{direction} completions")
    assert seen[f"{direction}_errors0"] == []


@pytest.mark.parametrize("direction", ["rx", "tx"])
def test_acknowledged_completions_that_are_refused_stop_their_direction(
    on_chip: dict[str, Any], direction: str
) -> None:
    seen = on_chip[f"{direction} completions"]
    check_records(seen, f"{direction} completions")
    assert seen[f"{direction}0"] == ["ERROR", "RING_WRITE"]
    others_go_on(seen, f"{direction}0")
