# SPDX-License-Identifier: BSD-2-Clause
"""Packets' lives: the NIC's trace points and the software's event log, joined."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from driver_model.events import Event
from hw.abi.rings import DropReason
from sim.host.trace import HardwareEvent

#: A packet's way from the wire to its buffer's return, and what each step means. A frame may be ``sent`` after its
#: buffer is back, because the NIC is done with the buffer when it has read it.
STEPS = MappingProxyType(
    {
        "arrived": "the NIC took the first beat",
        "accepted": "the whole frame is in the packet buffer",
        "taken": "its bytes are on their way to a buffer",
        "completed": "its writes are acknowledged (posted: by the link); the completion goes to the ring",
        "received": "the driver read the completion",
        "verdict": "the XDP program has decided",
        "queued": "the driver put the frame on a TX ring",
        "gathered": "the NIC has read the frame back",
        "sent": "the NIC gave the last beat to the wire",
        "cleaned": "the driver read that the NIC is done with the buffer",
        "returned": "the buffer is the strategy's again",
    }
)
#: The steps that are events of the driver, by their kind.
SOFTWARE_STEPS = MappingProxyType(
    {"receive": "received", "verdict": "verdict", "send": "queued", "clean": "cleaned", "return": "returned"}
)
PENDING = "pending"


class Step(NamedTuple):
    """One step of a packet's life; of a packet in several buffers, one for each where they differ."""

    time: int  #: picoseconds
    name: str  #: one of :data:`STEPS`
    buffer: int | None = None  #: the device's id of the buffer in hardware's steps, its address in software's


@dataclass
class Packet:
    """A frame that came from the wire.

    Attributes
    ----------
    serial : its number on the wire
    queue : index of its queue pair, once one was found
    fate : ``drop``, ``tx``, ``pass``… as the program decided, ``dropped: no_buffer`` (or another reason of the NIC), or
        ``pending`` if the run ended before
    steps : in the order of their names in :data:`STEPS`
    """

    serial: int
    queue: int | None = None
    fate: str = PENDING
    steps: list[Step] = field(default_factory=list)

    def times(self) -> dict[str, int]:
        """Picoseconds of each step, in their order; where buffers differ, of the last one."""
        last: dict[str, int] = {}
        for step in self.steps:
            last[step.name] = max(step.time, last.get(step.name, 0))
        return dict(sorted(last.items(), key=lambda item: item[1]))


@dataclass(frozen=True)
class Timeline:
    """A run, packet by packet.

    Attributes
    ----------
    packets : in the order of their arrival
    events : the software's events; those about a buffer of a known packet carry its serial
    """

    packets: list[Packet]
    events: list[Event]

    @property
    def span(self) -> tuple[int, int]:
        """Picoseconds of the first packet's first step, and of the last step of any."""
        times = [step.time for packet in self.packets for step in packet.steps]
        return min(times), max(times)


class FunctionTime(NamedTuple):
    """What a function cost on all cores."""

    intervals: int  #: that were charged
    picoseconds: int


def function_times(events: Iterable[Event], start: int, stop: int) -> dict[str, FunctionTime]:
    """Time charged to each function in intervals that begin in ``start..stop-1`` picoseconds, the dearest first."""
    total: dict[str, FunctionTime] = {}
    for event in events:
        if event.kind == "spend" and start <= event.time < stop:
            intervals, picoseconds = total.get(event.function, (0, 0))
            total[event.function] = FunctionTime(intervals + 1, picoseconds + event.cost)
    return dict(sorted(total.items(), key=lambda item: (-item[1].picoseconds, item[0])))


def join_timeline(hardware: Iterable[HardwareEvent], software: Iterable[Event], cycle_ps: int) -> Timeline:
    """Follow each packet through both logs.

    Both must be whole and in order. A frame is known by its serial up to its completion; from then on by (queue, buffer
    id) until the driver reads the completion, by the buffer's address until it is given back, and by (queue, ring slot)
    in the NIC's TX path. Each of these names at most one packet at a time, so the *n*-th use of a name in one log is
    the *n*-th in the other.
    """
    received = _Receiving(cycle_ps)
    sending = _Sending(cycle_ps)
    for happened in hardware:
        (sending if happened.point.startswith("tx_") else received).add(happened)
    owner: dict[int, Packet] = {}  # by the address of a buffer that software holds
    events = []
    for event in software:
        buffer = event.buffer
        if buffer is not None:
            if event.kind == "receive":
                owner[buffer] = received.next_completed(event)
            packet = owner.get(buffer)
            if packet is not None:
                _software_step(packet, event, sending)
                event = event._replace(packet=packet.serial)
            if event.kind == "return":
                owner.pop(buffer, None)
        events.append(event)
    order = {name: place for place, name in enumerate(STEPS)}
    for packet in received.packets:
        packet.steps.sort(key=lambda step: order[step.name])
    return Timeline(received.packets, events)


def _software_step(packet: Packet, event: Event, sending: "_Sending") -> None:
    if event.kind in SOFTWARE_STEPS:
        packet.steps.append(Step(event.time, SOFTWARE_STEPS[event.kind], event.buffer))
    if event.kind == "verdict":
        packet.fate = event.function
    elif event.kind == "send":
        packet.steps += sending.next_gathered(event)


class TimelineError(ValueError):
    """The two logs do not belong together, or a part of one is missing."""


class _Receiving:
    """The NIC's RX path: packets by serial, completions by the name that software will read."""

    def __init__(self, cycle_ps: int):
        self.packets: list[Packet] = []
        self._cycle_ps = cycle_ps
        self._by_serial: dict[int, Packet] = {}
        self._completed: dict[tuple[int, int], deque[Packet]] = defaultdict(deque)

    def add(self, happened: HardwareEvent) -> None:
        time, point = happened.cycle * self._cycle_ps, happened.point.removeprefix("rx_")
        if point == "arrived":  # a serial may come again after 2**serial_width frames
            packet = self._by_serial[happened.serial] = Packet(happened.serial)
            self.packets.append(packet)
        elif happened.serial not in self._by_serial:
            raise TimelineError(f"{happened!r} is about a frame that never arrived")
        packet = self._by_serial[happened.serial]
        if point in ("refused", "dropped"):
            packet.fate = f"dropped: {DropReason(happened.detail).name.lower()}"
            if point == "dropped":
                packet.queue = happened.queue
            return
        buffer = None
        if point in ("taken", "completed"):
            packet.queue, buffer = happened.queue, happened.detail
        if point == "completed":
            self._completed[happened.queue, happened.detail].append(packet)
        packet.steps.append(Step(time, point, buffer))

    def next_completed(self, event: Event) -> Packet:
        """The packet whose completion the driver has read."""
        name = _name(event)
        if not self._completed[name]:
            raise TimelineError(f"{event!r}: no completion for buffer {name[1]} of queue {name[0]} is left")
        return self._completed[name].popleft()


class _Sending:
    """The NIC's TX path: frames by a serial of their own, pieces by the ring slot that software gave them."""

    def __init__(self, cycle_ps: int):
        self._cycle_ps = cycle_ps
        self._gathered: dict[tuple[int, int], deque[list[Step]]] = defaultdict(deque)
        self._open: defaultdict[int, list[list[Step]]] = defaultdict(list)  # by serial: pieces of a frame not sent yet

    def add(self, happened: HardwareEvent) -> None:
        time = happened.cycle * self._cycle_ps
        if happened.point == "tx_gathered":
            steps = [Step(time, "gathered", happened.detail)]
            self._gathered[happened.queue, happened.detail].append(steps)
            self._open[happened.serial].append(steps)
        else:
            for steps in self._open[happened.serial]:
                steps.append(Step(time, "sent", steps[0].buffer))
            self._open[happened.serial].clear()

    def next_gathered(self, event: Event) -> list[Step]:
        """What became of a piece that software queued; empty if the NIC never read it."""
        pieces = self._gathered[_name(event)]
        return pieces.popleft() if pieces else []


def _name(event: Event) -> tuple[int, int]:
    if event.queue is None or event.buffer_id is None:
        raise TimelineError(f"{event!r} does not tell queue and buffer")
    return event.queue, event.buffer_id
