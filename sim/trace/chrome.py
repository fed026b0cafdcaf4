# SPDX-License-Identifier: BSD-2-Clause
"""A timeline as the JSON that Perfetto (ui.perfetto.dev) and chrome://tracing read: the Trace Event Format."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from driver_model.events import Event
from sim.trace.timeline import STEPS, Packet, Timeline

PACKETS, CORES = 1, 2  #: processes, as the format calls groups of tracks
MICROSECOND = 10**6  #: in picoseconds; the format's unit of time


def chrome_trace(timeline: Timeline, about: dict[str, Any]) -> dict[str, Any]:
    """The whole file as one JSON object.

    Each packet is an asynchronous slice; inside of it are slices from each step to the next, named by the latter. Each
    context of a core is a track of what it spent, and of what it did to buffers. ``about`` is kept beside them.
    """
    events: list[dict[str, Any]] = [
        _name("process_name", PACKETS, 0, "packets"),
        _name("process_name", CORES, 0, "cores"),
    ]
    for packet in timeline.packets:
        events += _packet(packet)
    events += _cores(timeline.events)
    return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def _packet(packet: Packet) -> Iterator[dict[str, Any]]:
    times = packet.times()
    common = {"cat": "packet", "id": packet.serial, "pid": PACKETS, "tid": packet.queue or 0}
    title = f"packet {packet.serial}"
    ends = list(times.values())
    about = {"queue": packet.queue, "fate": packet.fate, "picoseconds": dict(times)}
    yield common | {"ph": "b", "name": title, "ts": ends[0] / MICROSECOND, "args": about}
    for (_, start), (name, end) in pairwise(times.items()):
        until = f"until {name}"
        yield common | {"ph": "b", "name": until, "ts": start / MICROSECOND, "args": {name: STEPS[name]}}
        yield common | {"ph": "e", "name": until, "ts": end / MICROSECOND}
    yield common | {"ph": "e", "name": title, "ts": ends[-1] / MICROSECOND}


def _cores(events: list[Event]) -> Iterator[dict[str, Any]]:
    """A context spends one interval after the other, so the slices of a track never overlap."""
    tracks: dict[tuple[int, str], int] = {}
    for event in events:
        track = tracks.get((event.core, event.context))
        if track is None:
            track = tracks[event.core, event.context] = len(tracks)
            yield _name("thread_name", CORES, track, f"core {event.core}, {event.context}")
        shown = {"name": event.function, "cat": event.kind, "pid": CORES, "tid": track, "ts": event.time / MICROSECOND}
        if event.kind == "spend":
            yield shown | {"ph": "X", "dur": event.cost / MICROSECOND}
        else:
            known = {"packet": event.packet, "queue": event.queue, "buffer": event.buffer, "id": event.buffer_id}
            args = {name: value for name, value in known.items() if value is not None}
            yield shown | {"ph": "i", "s": "t", "name": f"{event.kind} {event.function}", "args": args}
