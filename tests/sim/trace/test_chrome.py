# SPDX-License-Identifier: BSD-2-Clause
"""The file for timeline viewers: the Trace Event Format's rules, and what is in it."""

import json

from driver_model.events import Event
from sim.trace.chrome import CORES, PACKETS, chrome_trace
from sim.trace.timeline import Packet, Step, Timeline

PACKET = Packet(3, 1, "tx", [Step(1_000_000, "arrived"), Step(3_000_000, "accepted"), Step(7_500_000, "taken", 4)])
EVENTS = [
    Event(1_000_000, 0, "softirq", "spend", None, None, "napi.poll", 250_000),
    Event(1_500_000, 0, "hardirq", "spend", None, None, "irq.entry", 100_000),
    Event(1_600_000, 1, "softirq", "receive", 3, 0x1000, "rx_completion", 0, 1, 4),
]


def trace() -> list[dict[str, object]]:
    document = json.loads(json.dumps(chrome_trace(Timeline([PACKET], EVENTS), {"frames": 1})))
    assert document["otherData"] == {"frames": 1}
    return document["traceEvents"]


def test_a_packet_is_a_slice_with_slices_from_step_to_step() -> None:
    shown = [(event["ph"], event["name"], event["ts"]) for event in trace() if event.get("cat") == "packet"]
    assert shown == [
        ("b", "packet 3", 1.0),
        ("b", "until accepted", 1.0),
        ("e", "until accepted", 3.0),
        ("b", "until taken", 3.0),
        ("e", "until taken", 7.5),
        ("e", "packet 3", 7.5),
    ]
    opening = next(event for event in trace() if event["name"] == "packet 3")
    assert (opening["id"], opening["pid"], opening["tid"]) == (3, PACKETS, 1)
    times = {"arrived": 1_000_000, "accepted": 3_000_000, "taken": 7_500_000}
    assert opening["args"] == {"queue": 1, "fate": "tx", "picoseconds": times}


def test_each_context_of_a_core_is_a_track() -> None:
    tracks = {event["tid"]: event["args"]["name"] for event in trace() if event["name"] == "thread_name"}
    assert list(tracks.values()) == ["core 0, softirq", "core 0, hardirq", "core 1, softirq"]
    spent = [
        (tracks[event["tid"]], event["name"], event["ts"], event["dur"]) for event in trace() if event["ph"] == "X"
    ]
    assert spent == [("core 0, softirq", "napi.poll", 1.0, 0.25), ("core 0, hardirq", "irq.entry", 1.5, 0.1)]
    (instant,) = [event for event in trace() if event["ph"] == "i"]
    assert (instant["pid"], instant["name"], instant["ts"]) == (CORES, "receive rx_completion", 1.6)
    assert instant["args"] == {"packet": 3, "queue": 1, "buffer": 0x1000, "id": 4}
