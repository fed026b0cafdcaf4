# SPDX-License-Identifier: BSD-2-Clause
"""How long a single frame takes through an idle machine, by stage."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from driver_model.drivers.ring import TX_DATA, TX_END_OF_PACKET
from hw.abi.registers import register_map
from hw.abi.rings import ENTRY_BYTES, LINE_BYTES
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.mailbox import MailboxClient
from sim.host.stream_account import AccountClient
from sim.host.wire_player import AHEAD, PlayerClient
from sim.line_rate.frames import FrameError, NumberedFrames
from sim.line_rate.queues import TX, Buffers, Receiver
from sim.line_rate.rings import DescriptorRing, column
from sim.streams import record_names
from sim.traffic.flows import mac_value, queue_mac
from sim.traffic.pacing import FCS_BYTES

#: The streams that carry a frame, or something about it, in their order, and what their last transfer of it means.
STEPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "rx": {
            "wire_rx": "the NIC has the last beat",
            "rx_frames": "the frame is in the packet buffer",
            "rx_parsed": "its headers are known",
            "rx_steered": "its queue is known",
            "rx_segments": "it has a buffer",
            "rx_data": "its bytes are at the DMA writer",
            "rx_written": "they are acknowledged",
            "rx_completions": "the completion is at its writer",
            "rx_lines": "the completion is due",
            "rx_lines_done": "it is acknowledged",
        },
        "tx": {
            "registers": "the NIC has the doorbell",
            "tx_fetches": "the descriptor is asked for",
            "tx_fetched": "the descriptor is there",
            "tx_descriptors": "the scheduler has it",
            "tx_jobs": "the frame is to be gathered",
            "tx_reads": "its bytes are asked for",
            "tx_data": "they are there",
            "tx_frames": "the frame is in the packet buffer",
            "wire_tx": "the last beat is on the wire",
        },
    }
)
VISIBLE = "visible"  #: the completion is in memory
ENTRIES = 64
RX_BUFFER = 2048  #: bytes
RINGS, BUFFERS, SENT = 0x1000, 0x10000, 0x40000  #: addresses
MEMORY = 1 << 20  #: bytes of memory that are needed
IDLE = 3000  #: cycles after which nothing moves any more


@dataclass(frozen=True)
class LatencyRun:
    """One frame in each direction.

    Attributes
    ----------
    size : bytes of the frame on the wire, with FCS
    """

    size: int = 64

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 64 <= self.size <= RX_BUFFER:
            raise ValueError(f"size must be in 64..{RX_BUFFER}, not {self.size!r}")

    def check(self, machine: MachineConfig) -> None:
        """Raise ``ValueError`` unless the run fits on a machine."""
        if not machine.nic.probes or machine.iommu is not None:
            raise ValueError(f"Latency is measured on a machine with probes and without an IOMMU, not {machine!r}")
        if machine.memory_size < MEMORY:
            raise ValueError(f"memory_size must be at least {MEMORY}, not {machine.memory_size!r}")


@dataclass(frozen=True)
class LatencyMeasurement:
    """Cycles to each step of :data:`STEPS`: for ``rx`` from the frame's start on the wire, and to ``visible`` as well;
    for ``tx`` from the edge before which software wrote the doorbell."""

    rx: Mapping[str, int]
    tx: Mapping[str, int]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LatencyMeasurement":
        """Of a case of :func:`run_latencies`."""
        return cls(values["rx"], values["tx"])


def run_latencies(backend: Backend, machine: MachineConfig, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Job for :func:`sim.backends.base.launch`: one run after another, with a reset between them.

    Each case has a ``label`` and a ``run``, the fields of a :class:`LatencyRun`. Returns ``cases``, the fields of a
    :class:`LatencyMeasurement` for each, and ``profiles``: none. Completions are written at once. Nothing else moves:
    descriptors for RX are in the NIC already.
    """
    measured = []
    for number, case in enumerate(cases, 1):
        run = LatencyRun(**case["run"])
        run.check(machine)
        if number > 1:
            backend.reset()
        measured.append(_Idle(backend, machine, run.size - FCS_BYTES).measure())
        print(f"[{number}/{len(cases)}] {case['label']}", file=sys.stderr, flush=True)
    return {"cases": measured, "profiles": {}}


class _Idle:
    def __init__(self, backend: Backend, machine: MachineConfig, length: int):
        self._backend = backend
        self._memory: np.ndarray = backend.storage["memory"]
        self._mailbox = MailboxClient(backend)
        self._streams = AccountClient(backend, record_names(machine))
        self._player = PlayerClient(backend)
        self._registers = register_map(machine.nic.queues)
        self._frames = NumberedFrames(length)

    def measure(self) -> dict[str, dict[str, int]]:
        port = self._registers.port
        self._mailbox.set_carrier(True)
        for name, fields in (
            ("timeouts", {"starvation": 1024, "completion": 0}),
            ("control", {"rx_enable": 1, "tx_enable": 1}),
        ):
            self._mailbox.write_register(port[name].offset, port[name].pack(**fields))
        return {"rx": self._receive(), "tx": self._send()}

    def _receive(self) -> dict[str, int]:
        buffers = Buffers(BUFFERS, RX_BUFFER, 0, RX_BUFFER, ENTRIES)
        receiver = Receiver(
            self._memory, self._mailbox, self._registers, 0, RINGS, buffers, self._frames, entries=ENTRIES
        )
        receiver.start(mac_value(queue_mac(0)))
        self._rest()
        start = self._backend.cycle + AHEAD
        self._player.put(np.array([start]), self._frames.make(np.arange(1)))
        first = RINGS + ENTRIES * ENTRY_BYTES
        token = self._backend.watch("memory", first, first + LINE_BYTES)
        limit = self._backend.cycle + IDLE
        while token not in self._backend.hits():
            if self._backend.cycle >= limit:
                raise FrameError(f"No completion came in {IDLE} cycles")
            self._backend.advance(limit)
        visible = self._backend.cycle
        self._backend.unwatch(token)
        self._rest()
        if receiver.poll() != 1:
            raise FrameError("A completion came, but no frame")
        self._rest()  # the doorbell that gives the buffer back
        return self._steps("rx", start) | {VISIBLE: visible - start}

    def _send(self) -> dict[str, int]:
        rings = RINGS + 2 * ENTRIES * ENTRY_BYTES
        ring = DescriptorRing(self._memory, rings, ENTRIES)
        queue = self._registers.queue
        for name, value in (
            ("tx_ring_base", ring.base),
            ("tx_ring_size", ENTRIES),
            ("tx_completion_base", rings + ENTRIES * ENTRY_BYTES),
            ("tx_completion_size", ENTRIES),
            ("tx_control", queue["tx_control"].pack(enable=1)),
        ):
            self._mailbox.write_register(self._registers.address(name, 0), value)
        self._rest()
        self._memory[SENT : SENT + self._frames.length] = self._frames.make(np.arange(1))[0]
        descriptor = np.zeros((1, ENTRY_BYTES), np.uint8)
        column(descriptor, TX, "address")[:] = SENT
        column(descriptor, TX, "length")[:] = self._frames.length
        descriptor.view(np.dtype("<u4"))[:, TX.fields["type"][0] // 32] = TX_DATA | TX_END_OF_PACKET
        ring.post(descriptor)
        start = self._backend.cycle
        self._mailbox.write_register(self._registers.address("tx_doorbell", 0), queue["tx_doorbell"].pack(producer=1))
        self._rest()
        return self._steps("tx", start)

    def _steps(self, direction: str, start: int) -> dict[str, int]:
        last: Any = self._streams.last()
        missing = [name for name in STEPS[direction] if last[name] < start]
        if missing:
            raise FrameError(f"Nothing moved on {', '.join(missing)} from cycle {start} on")
        return {name: last[name] - start for name in STEPS[direction]}

    def _rest(self) -> None:
        """Until nothing moves any more."""
        until = self._backend.cycle + IDLE
        while self._backend.cycle < until:
            self._backend.advance(until)
            self._backend.hits()
