# SPDX-License-Identifier: BSD-2-Clause
"""The two logs joined, on logs made by hand."""

from typing import Any

import pytest

from driver_model.events import Event
from hw.abi.rings import DropReason
from sim.host.trace import HardwareEvent
from sim.trace.timeline import FunctionTime, Step, TimelineError, function_times, join_timeline

CYCLE = 10  #: picoseconds of a clock cycle here


def at(cycle: int, point: str, serial: int, queue: int = 0, detail: int = 0) -> HardwareEvent:
    return HardwareEvent(cycle, point, serial, queue, detail)


def did(time: int, kind: str, buffer: int, function: str = "f", queue: int = 0, buffer_id: int | None = None) -> Event:
    return Event(time, 0, "softirq", kind, None, buffer, function, 0, queue, buffer_id)


def receive(cycle: int, serial: int, queue: int, *buffers: int) -> list[HardwareEvent]:
    """A frame from the wire into its buffers, from a cycle on."""
    return [
        at(cycle, "arrived", serial),
        at(cycle + 1, "rx_accepted", serial),
        *(at(cycle + 2, "rx_taken", serial, queue, buffer) for buffer in buffers),
        *(at(cycle + 3 + n, "rx_completed", serial, queue, buffer) for n, buffer in enumerate(buffers)),
    ]


def steps(packet: Any) -> list[tuple[int, str]]:
    return [(step.time, step.name) for step in packet.steps]


def test_a_frame_that_is_sent_back_is_followed_to_its_buffers_return() -> None:
    hardware = [*receive(5, 0, 1, 7), at(20, "tx_gathered", 40, 1, 3), at(24, "tx_sent", 40)]
    software = [
        did(101, "post", 0x1000, queue=1, buffer_id=7),
        did(111, "receive", 0x1000, queue=1, buffer_id=7),
        did(112, "verdict", 0x1000, "tx", queue=1),
        did(113, "send", 0x1000, queue=1, buffer_id=3),
        did(230, "clean", 0x1000, queue=1, buffer_id=3),
        did(232, "return", 0x1000, queue=1),
        did(233, "post", 0x1000, queue=1, buffer_id=8),
    ]
    timeline = join_timeline(hardware, software, CYCLE)
    (packet,) = timeline.packets
    assert (packet.serial, packet.queue, packet.fate) == (0, 1, "tx")
    assert packet.steps == [
        Step(50, "arrived"),
        Step(60, "accepted"),
        Step(70, "taken", 7),
        Step(80, "completed", 7),
        Step(111, "received", 0x1000),
        Step(112, "verdict", 0x1000),
        Step(113, "queued", 0x1000),
        Step(200, "gathered", 3),
        Step(240, "sent", 3),
        Step(230, "cleaned", 0x1000),
        Step(232, "returned", 0x1000),
    ]
    assert list(packet.times())[-3:] == ["cleaned", "returned", "sent"]
    assert [event.packet for event in timeline.events] == [None, 0, 0, 0, 0, 0, None]
    assert timeline.span == (50, 240)


def test_one_buffer_serves_many_frames_and_one_id_many_buffers() -> None:
    hardware = [event for n in range(4) for event in receive(10 * n, n, 0, 2)]
    software = []
    for n, page in enumerate((0x1000, 0x2000, 0x1000, 0x3000)):
        software += [
            did(100 * n + 90, "receive", page, buffer_id=2),
            did(100 * n + 91, "verdict", page, "drop"),
            did(100 * n + 92, "return", page),
        ]
    packets = join_timeline(hardware, software, CYCLE).packets
    assert [packet.serial for packet in packets] == [0, 1, 2, 3]
    assert [packet.times()["returned"] for packet in packets] == [92, 192, 292, 392]
    assert {packet.fate for packet in packets} == {"drop"}


def test_queues_name_their_buffers_and_slots_apart() -> None:
    hardware = [
        *(event for queue in (0, 1) for event in receive(10 * queue, queue, queue, 5)),
        *(at(50 + queue, "tx_gathered", queue, queue, 0) for queue in (1, 0)),
    ]
    software = []
    for queue in (1, 0):
        page = 0x1000 << queue
        software += [
            did(300, "receive", page, queue=queue, buffer_id=5),
            did(300, "send", page, queue=queue, buffer_id=0),
        ]
    zero, one = join_timeline(hardware, software, CYCLE).packets
    assert (zero.queue, zero.times()["gathered"]) == (0, 500)
    assert (one.queue, one.times()["gathered"]) == (1, 510)
    assert "sent" not in zero.times()
    assert zero.fate == "pending"


def test_a_frame_over_several_buffers_is_complete_with_the_last() -> None:
    software = [
        did(200, "receive", 0x1000, buffer_id=1),
        did(205, "receive", 0x2000, buffer_id=2),
        did(210, "verdict", 0x1000, "pass"),
        did(211, "return", 0x1000),
        did(215, "return", 0x2000),
    ]
    (packet,) = join_timeline(receive(1, 9, 0, 1, 2), software, CYCLE).packets
    assert len([step for step in packet.steps if step.name == "received"]) == 2
    times = packet.times()
    assert (times["completed"], times["received"], times["returned"]) == (50, 205, 215)


def test_dropped_frames_say_why() -> None:
    hardware = [
        at(1, "arrived", 0),
        at(2, "rx_refused", 0, detail=DropReason.BAD_FCS.value),
        at(3, "arrived", 1),
        at(4, "rx_accepted", 1),
        at(5, "rx_dropped", 1, 1, DropReason.NO_BUFFER.value),
    ]
    first, second = join_timeline(hardware, [], CYCLE).packets
    assert (first.fate, first.queue, steps(first)) == ("dropped: bad_fcs", None, [(10, "arrived")])
    assert (second.fate, second.queue) == ("dropped: no_buffer", 1)
    assert steps(second) == [(30, "arrived"), (40, "accepted")]


def test_serials_may_come_again() -> None:
    hardware = [*receive(1, 3, 0, 1), *receive(11, 3, 0, 2)]
    software = [did(500, "receive", 0x1000, buffer_id=2), did(501, "receive", 0x2000, buffer_id=1)]
    first, second = join_timeline(hardware, software, CYCLE).packets
    assert first.times()["received"] == 501
    assert second.times()["received"] == 500


@pytest.mark.parametrize(
    ("hardware", "software", "message"),
    [
        ([at(1, "rx_accepted", 4)], [], "serial=4.* is about a frame that never arrived"),
        (
            receive(1, 0, 0, 5),
            [did(9, "receive", 0x1000, buffer_id=6)],
            "no completion for buffer 6 of queue 0 is left",
        ),
        (receive(1, 0, 0, 5), [did(9, "receive", 0x1000)], "does not tell queue and buffer"),
    ],
)
def test_logs_that_do_not_fit_are_refused(hardware: Any, software: Any, message: str) -> None:
    with pytest.raises(TimelineError, match=message):
        join_timeline(hardware, software, CYCLE)


def test_time_of_functions() -> None:
    def spend(time: int, function: str, cost: int) -> Event:
        return Event(time, 0, "softirq", "spend", None, None, function, cost)

    events = [
        spend(0, "a", 100),
        spend(5, "a", 3),
        spend(7, "b", 20),
        did(8, "post", 1),
        spend(9, "a", 4),
        spend(10, "b", 9),
    ]
    assert list(function_times(events, 5, 10).items()) == [("b", FunctionTime(1, 20)), ("a", FunctionTime(2, 7))]
