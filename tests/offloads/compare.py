# SPDX-License-Identifier: BSD-2-Clause
"""Rounds of random traffic, in both directions at once, through the whole machine; compared to the last byte."""

import random
from collections import Counter
from collections.abc import Iterable
from math import ceil

from hw.abi.registers import register_map
from hw.abi.rings import ChecksumStatus, DropReason
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.mailbox import MailboxClient, RegisterRead
from sim.host.wire_player import AHEAD, PlayerClient
from sim.host.wire_recorder import RecorderClient
from sim.traffic.pacing import MIN_FRAME, LineRate
from tests.hw.nic.rx.reference import Expected, classify, classify_stripped, strip
from tests.hw.nic.tx.packets import Placer
from tests.offloads import receive, send
from tests.offloads.frames import WireFrame, published, wire_frame
from tests.offloads.opinion import scapy_verdict
from tests.offloads.receive import Awaited, ReceiveQueue
from tests.offloads.send import MARK, Sending, SendQueue, checksum_request, refused_request, segmentation_request
from tests.offloads.settings import Settings

REFUSED = 8  #: requests of a round that cannot be done
GAPS = (0, 0, 1, 1, 1, 1, 2, 20)  #: from a frame's start to the next one's, in times that it takes at line rate
STALLED_PACE = 4  #: times as long are these gaps where streams are held back, lest the packet buffer overflows
PERIOD = 400  #: cycles between two looks at the rings
LIMIT = 400_000  #: cycles that a round may take
QUIET = 5  #: looks without news, until nothing more is expected to come
RINGS = 1 << 20
RX_BUFFERS = (16 << 20) + 2048  #: so that buffers lie across pages
TX_BUFFERS = 40 << 20


class Comparison:
    """All offloads of a machine just after reset. ``AssertionError`` tells the first difference.

    Parameters
    ----------
    backend, design : the machine
    seed : of all that is random
    stalls : hold back every stream at random in so many of 256 cycles, on a machine built with stalls

    Attributes
    ----------
    covered : what was compared so far, by direction and kind
    """

    def __init__(self, backend: Backend, design: MachineConfig, seed: str, stalls: int = 0):
        self._backend, self._nic = backend, design.nic
        self._pace = STALLED_PACE if stalls else 1
        self._rng = rng = random.Random(seed)
        self._registers = register_map(design.nic.queues)
        self._mailbox = MailboxClient(backend)
        self._player, self._recorder = PlayerClient(backend), RecorderClient(backend)
        self._line = LineRate(design.mac_mbps * 1_000_000, design.nic.clock_khz)
        memory = backend.storage["memory"]
        self.memory = memory.data  # where the placer puts frames
        self._placer = Placer(self, rng)
        self._receivers, self._senders = [], []
        for queue in range(design.nic.queues):
            rings = RINGS + queue * (receive.RING_BYTES + send.RING_BYTES)
            buffers = RX_BUFFERS + queue * receive.BUFFER_BYTES
            self._receivers.append(ReceiveQueue(memory, rings, buffers, random.Random(f"{seed} {queue}")))
            self._senders.append(SendQueue(memory, rings + receive.RING_BYTES, queue))
        self._queues = self._receivers, self._senders
        self._drops: Counter[DropReason] = Counter()
        self.covered: Counter[tuple[str, str]] = Counter()
        self._set_up()
        if stalls:
            self._mailbox.set_stalls(stalls, rng.getrandbits(32))

    @property
    def done(self) -> tuple[int, int, int]:
        """Frames received, frames sent with checksums inserted, and segments sent."""
        checksums, segments = (
            sum(count for (direction, _), count in self.covered.items() if direction == wanted)
            for wanted in ("checksum", "segment")
        )
        return sum(queue.received for queue in self._receivers), checksums, segments

    @property
    def starts(self) -> tuple[int, int]:
        """At how many of the 64 places in a line buffers began that received, and that were sent."""
        received, sent = ({start for queue in queues for start in queue.starts} for queues in self._queues)
        return len(received), len(sent)

    def published_hashes(self) -> None:
        """Receive the frames of published hashes, with ports and without."""
        for ports in (True, False):
            settings = Settings.published(self._nic.queues, ports=ports)
            frames = []
            for frame, by_addresses, by_ports in published():
                assert settings.hash(classify(frame.data)) == (by_ports if ports else by_addresses)
                frames.append(frame)
            self._round(settings, frames, [])
            self.covered["receive", f"published hash {'with' if ports else 'without'} ports"] += len(frames)

    def random_round(self, frames: int, checksums: int, segments: int) -> None:
        """Receive so many frames, and send so many requests for checksums and at least so many segments."""
        rng, longest = self._rng, self._nic.max_frame
        settings = Settings.random(rng, self._nic.queues, longest)
        sendings = [checksum_request(rng, longest) for _ in range(checksums)]
        while segments > 0:
            sendings.append(segmentation_request(rng))
            segments -= len(sendings[-1].frames)
        sendings += [refused_request(rng, longest) for _ in range(REFUSED)]
        rng.shuffle(sendings)
        limits = settings.min_length, settings.max_length
        self._round(settings, [wire_frame(rng, *limits) for _ in range(frames)], sendings)

    def _round(self, settings: Settings, frames: list[WireFrame], sendings: list[Sending]) -> None:
        for offset, value in settings.writes(self._registers):
            self._mailbox.write_register(offset, value)
        self._read("status")  # behind every write
        self._receive(settings, frames)
        self._send(sendings)
        limit, quiet = self._backend.cycle + LIMIT, 0
        while quiet < QUIET:
            until = self._backend.cycle + PERIOD
            while self._backend.cycle < until:
                self._backend.advance(until)
                self._backend.hits()
            news = self._poll()
            waiting = [queue.waiting for queue in (*self._receivers, *self._senders) if queue.waiting]
            quiet = 0 if news or waiting else quiet + 1
            assert self._backend.cycle < limit, (
                f"after {LIMIT} cycles of a round there still was to come {waiting[:1]}; the NIC dropped "
                f"{dict(self._dropped())}, and {dict(self._drops)} was to be dropped"
            )
        for queue in self._receivers:
            queue.check_memory()
        dropped = self._dropped()
        assert dropped == self._drops, f"the NIC dropped {dict(dropped)}, not {dict(self._drops)}"

    def _receive(self, settings: Settings, frames: list[WireFrame]) -> None:
        """Give frames to the wire, and tell the queues of those that are to come."""
        played, start = [], self._backend.cycle + AHEAD + PERIOD
        for frame in frames:
            reason = frame.drop(settings.min_length, settings.max_length)
            if reason is None:
                data, expected = frame.data, classify(frame.data)
                if settings.strips:
                    data, expected = strip(data)[0], classify_stripped(data)
                opinion = scapy_verdict(data, expected)
                assert opinion in (None, expected.status), f"scapy finds it {opinion}: {expected}, {data.hex()}"
                self.covered["scapy", "no opinion" if opinion is None else f"agrees: {opinion.name}"] += 1
                rss_hash = settings.hash(expected)
                queue = self._receivers[settings.queue(rss_hash)]
                queue.awaited.append(Awaited(data, expected, rss_hash, settings.hash_ports(expected)))
            else:
                self._drops[reason] += 1
            self.covered["receive", _kind(expected) if reason is None else f"dropped: {reason.name}"] += 1
            played.append((start, frame.data, 0, frame.bad_fcs))
            gap = self._rng.choice(GAPS) * self._pace
            start += ceil(gap * self._line.frame_cycles(max(len(frame.data), MIN_FRAME)))
        self._player.play(played)

    def _send(self, sendings: Iterable[Sending]) -> None:
        """Put requests on the rings, each on any."""
        self._placer.next = TX_BUFFERS
        for sending in sendings:
            self._rng.choice(self._senders).post(sending, self._placer)
            self.covered[sending.direction, sending.kind] += max(1, len(sending.frames))
        for queue in range(len(self._senders)):
            self._ring(queue)

    def _poll(self) -> bool:
        """Compare all that came and left; whether something did."""
        frames = self._recorder.recorded()
        for frame in frames:
            assert not frame.error, f"a frame left damaged: {frame}"
            assert not frame.underrun, f"the NIC paused inside of a frame: {frame}"
            queue = frame.data[MARK][1]
            assert queue < len(self._senders), f"a frame of no queue left: {frame}"
            self._senders[queue].sent(frame.data)
        news = len(frames) > 0
        for queue, (receiver, sender) in enumerate(zip(self._receivers, self._senders, strict=True)):
            if receiver.poll() | sender.poll():
                self._ring(queue)
                news = True
        return news

    def _ring(self, queue: int) -> None:
        """Tell the NIC how far both directions of a queue are."""
        receiver, sender, registers = self._receivers[queue], self._senders[queue], self._registers
        for name, fields in (
            ("rx_doorbell", {"fill_producer": receiver.fill.produced}),
            ("tx_doorbell", {"producer": sender.ring.produced}),
        ):
            completions = receiver.completions if name == "rx_doorbell" else sender.completions
            value = registers.queue[name].pack(completion_consumer=completions.consumed, **fields)
            self._mailbox.write_register(registers.address(name, queue), value)

    def _set_up(self) -> None:
        registers, mailbox = self._registers, self._mailbox
        mailbox.set_carrier(True)
        for queue, (receiver, sender) in enumerate(zip(self._receivers, self._senders, strict=True)):
            for name, value in (
                ("rx_fill_base", receiver.fill.base),
                ("rx_fill_size", receiver.fill.entries),
                ("rx_completion_base", receiver.completions.base),
                ("rx_completion_size", receiver.completions.entries),
                ("rx_control", registers.queue["rx_control"].pack(enable=1)),
                ("tx_ring_base", sender.ring.base),
                ("tx_ring_size", sender.ring.entries),
                ("tx_completion_base", sender.completions.base),
                ("tx_completion_size", sender.completions.entries),
                ("tx_control", registers.queue["tx_control"].pack(enable=1)),
            ):
                mailbox.write_register(registers.address(name, queue), value)
            self._ring(queue)
        self._control()

    def _control(self, **fields: int) -> None:
        control = self._registers.port["control"]
        self._mailbox.write_register(control.offset, control.pack(rx_enable=1, tx_enable=1, **fields))

    def _dropped(self) -> Counter[DropReason]:
        """Frames that the NIC says it dropped since reset."""
        self._control(snapshot=1)
        dropped: Counter[DropReason] = Counter()
        for reason in DropReason:
            name = f"drop_{reason.name.lower()}"
            if f"rx.{name}" in self._registers.port:
                dropped[reason] += self._read(f"rx.{name}")
            else:
                dropped[reason] += sum(self._read(f"counters.{name}", queue) for queue in range(self._nic.queues))
        return +dropped

    def _read(self, name: str, queue: int | None = None) -> int:
        """A register's value."""
        self._mailbox.read_register(self._registers.address(name, queue))
        limit = self._backend.cycle + LIMIT
        while True:
            for event in self._mailbox.events():
                assert isinstance(event, RegisterRead), f"instead of register {name} there came {event}"
                assert not event.error, f"register {name} was refused"
                return event.value
            assert self._backend.cycle < limit, f"waited {LIMIT} cycles for register {name}"
            self._backend.advance(limit)
            self._backend.hits()


def _kind(expected: Expected) -> str:
    """Layers, tags and verdict of a frame."""
    tag = " stripped" if expected.stripped else " tagged" if expected.vlan is not None else ""
    verdict = "" if expected.status is ChecksumStatus.NOT_CHECKED else f" {expected.status.name}"
    return f"{expected.network.name} {expected.transport.name}{tag}{verdict}"
