# SPDX-License-Identifier: BSD-2-Clause
"""Software that sets up the device wrongly, on a whole machine: what software sees of it.

Queue 0 is broken in one way or another, queue 1 works; both are used by hand, without the driver.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

from driver_model.cpu.core import ALL_ONES, Core
from driver_model.cpu.profile import Profile
from driver_model.drivers import fill, transmit
from hw.abi.registers import register_map
from hw.abi.rings import CompletionError, QueueError, QueueState
from sim.backends.base import Backend
from sim.config import MachineConfig
from sim.host.wire_player import PlayerClient
from sim.host.wire_recorder import RecorderClient
from sim.platform import SimPlatform
from sim.run import RunConfig
from sim.scenario import RunError, Scenario
from sim.traffic.source import Traffic

US = 10**6
ENTRIES = 16
QUEUE_BYTES = 0x20000
FILL, RX_DONE, TX, TX_DONE, RX_BUFFERS, TX_BUFFERS = 0x0, 0x1000, 0x2000, 0x3000, 0x8000, 0x10000
FRAME = 200
UNMAPPED = 0x300  #: among the registers of the port, where none is


def pack(address: int, length: int, word: int = 0, control: int = 0) -> bytes:
    """A descriptor."""
    return b"".join(
        value.to_bytes(size, "little") for value, size in ((address, 8), (length, 2), (word, 2), (control, 4))
    )


class Hostile:
    """The machine, its registers and two queues."""

    def __init__(self, backend: Backend, machine: MachineConfig) -> None:
        self.machine = machine
        self.map = register_map(machine.nic.queues)
        self.platform = SimPlatform(backend, machine.cycle_ps, self.map.size, machine.iommu_registers)
        self.core = Core(self.platform, 0, Profile.load("e5-1650v4"))
        self.player = PlayerClient(backend)
        self.recorder = RecorderClient(backend)
        self.backend = backend
        self.outside = machine.memory_size + 0x10000

    def run(self, function: Callable[[], None]) -> None:
        """Run a process to its end."""

        def process() -> None:
            function()
            self.core.sync()
            self.platform.stop()

        self.core.spawn("hostile", process)
        assert self.platform.run(self.platform.now + 5000 * US), "the process did not end in 5 ms"
        self.core.shutdown()

    def write(self, name: str, queue: int | None = None, value: int | None = None, **fields: int) -> None:
        register = self.map.port[name] if queue is None else self.map.queue[name]
        self.core.mmio_write(self.map.address(name, queue), register.pack(**fields) if value is None else value)

    def read(self, name: str, queue: int | None = None) -> int:
        return self.core.mmio_read(self.map.address(name, queue))

    def at(self, queue: int, part: int, index: int = 0, size: int = 16) -> int:
        return QUEUE_BYTES * (1 + queue) + part + index * size

    def start(self, queue: int, **changes: int) -> None:
        """Set up the rings of a queue, some registers otherwise, and enable both directions."""
        for name, part in (("rx_fill", FILL), ("rx_completion", RX_DONE), ("tx_ring", TX), ("tx_completion", TX_DONE)):
            self.write(f"{name}_base", queue, changes.get(f"{name}_base", self.at(queue, part)))
            self.write(f"{name}_size", queue, changes.get(f"{name}_size", ENTRIES))
        self.write("mac_address", queue, address=2 | queue << 40, enable=1)
        self.write("rx_control", queue, 1)
        self.write("tx_control", queue, 1)

    def post(self, queue: int, **changes: int) -> None:
        """Post half a ring of buffers; the first one otherwise."""
        for index in range(ENTRIES // 2):
            address = self.at(queue, RX_BUFFERS, index, 2048)
            first = changes if not index else {}
            entry = pack(first.get("address", address), first.get("length", 2048), index)
            self.core.store(self.at(queue, FILL, index), entry)
        self.write("rx_doorbell", queue, fill_producer=changes.get("producer", ENTRIES // 2))

    def send(self, queue: int, **changes: int) -> None:
        """Send one frame to the wire and ask for its completion."""
        address = self.at(queue, TX_BUFFERS)
        self.core.store(address, self.frame(queue))
        control = changes.get("type", 1) | 0b11 << 24
        entry = pack(changes.get("address", address), changes.get("length", FRAME), 0, control)
        self.core.store(self.at(queue, TX), entry)
        self.write("tx_doorbell", queue, producer=changes.get("producer", 1))

    def frame(self, queue: int) -> bytes:
        return bytes([2, 0, 0, 0, 0, queue]) + bytes(range(FRAME - 6))

    def status(self, queue: int, direction: str) -> list[str]:
        """State and error."""
        register = self.map.queue[f"{direction}_status"]
        word = self.read(f"{direction}_status", queue)
        return [QueueState(register.get(word, "state")).name, QueueError(register.get(word, "error")).name]

    def counters(self) -> dict[str, int]:
        """What became of the frames: those counters that are not zero."""
        self.write("control", rx_enable=1, tx_enable=1, snapshot=1)
        names = [("rx.frames", None)] + [(name, None) for name in self.map.port if "drop_" in name]
        for queue in range(2):
            names += [(f"counters.{name}", queue) for name in ("rx_packets", "rx_write_fault", "tx_read_fault")]
            names += [(name, queue) for name in self.map.queue if "drop_" in name]
        values = {name if queue is None else f"{queue}.{name}": self.read(name, queue) for name, queue in names}
        return {name: value for name, value in values.items() if value}


#: What is wrong with queue 0: registers, its descriptors posted for receiving, its descriptor for sending.
CASES: dict[str, tuple[dict[str, int], dict[str, int], dict[str, int]]] = {
    "nothing": ({}, {}, {}),
    "fill length 0": ({}, {"length": 0}, {}),
    "tx length 0": ({}, {}, {"length": 0}),
    "tx type 0": ({}, {}, {"type": 0}),
    "fill doorbell": ({}, {"producer": ENTRIES + 1}, {}),
    "tx doorbell": ({}, {}, {"producer": ENTRIES + 1}),
    "fill size": ({"rx_fill_size": 100}, {}, {}),
    "tx completion size": ({"tx_completion_size": 4}, {}, {}),
    "fill base": ({"rx_fill_base": QUEUE_BYTES + 8}, {}, {}),
    "fill ring outside": ({"rx_fill_base": -1}, {}, {}),
    "tx ring outside": ({"tx_ring_base": -1}, {}, {}),
    "rx completions outside": ({"rx_completion_base": -1}, {}, {}),
    "tx completions outside": ({"tx_completion_base": -1}, {}, {}),
    "fill address outside": ({}, {"address": -1}, {}),
    "tx address outside": ({}, {}, {"address": -1}),
}


def broken(backend: Backend, machine: MachineConfig, names: list[str]) -> dict[str, Any]:
    """Each case on a machine just after reset: a frame comes for each queue, and each queue sends one."""
    seen = {}
    for number, name in enumerate(names):
        if number:
            backend.reset()
        seen[name] = one(Hostile(backend, machine), *CASES[name])
    return seen


def one(host: Hostile, setup: dict[str, int], posted: dict[str, int], sent: dict[str, int]) -> dict[str, Any]:
    """What software sees of one case; a value of -1 stands for an address outside of memory."""
    setup, posted, sent = ({k: host.outside if v < 0 else v for k, v in part.items()} for part in (setup, posted, sent))
    result: dict[str, Any] = {}

    def process() -> None:
        host.platform.set_carrier(True)
        host.start(0, **setup)
        host.start(1)
        host.write("control", rx_enable=1, tx_enable=1)
        for queue, changes in ((0, posted), (1, {})):
            host.post(queue, **changes)
        host.read("status")
        host.core.sleep_until(host.core.time + 5 * US)
        start = host.backend.cycle + 64
        host.player.play([(start, host.frame(queue), 0, False) for queue in range(2)])
        host.send(0, **sent)
        host.send(1)
        host.core.sleep_until(host.core.time + 20 * US)
        for queue in range(2):
            for direction in ("rx", "tx"):
                result[f"{direction}{queue}"] = host.status(queue, direction)
        result["counters"] = host.counters()
        result["rx_error"] = error(host.platform.read(host.at(0, RX_DONE), 16))
        result["tx_error"] = error(host.platform.read(host.at(0, TX_DONE), 16))
        got = host.platform.read(host.at(1, RX_BUFFERS), FRAME)
        result["received"] = [got == host.frame(1), error(host.platform.read(host.at(1, RX_DONE), 16))]
        result["sent"] = [frame.data[5] for frame in host.recorder.recorded()]
        result["refused"] = [host.map.describe(write.offset) for write in host.platform.refused]
        result["posted_errors"] = host.platform.posted_errors

    host.run(process)
    return result


def error(completion: bytes) -> str | None:
    """CompletionError of a completion; None if it is not there."""
    return CompletionError(completion[14] & 15).name if completion[15] & 0x80 else None


def registers(backend: Backend, machine: MachineConfig, argument: None) -> dict[str, Any]:
    """Writes and reads that no register takes, and what is told of them."""
    host = Hostile(backend, machine)
    result: dict[str, Any] = {}

    def process() -> None:
        core, size = host.core, host.map.size
        for offset in (UNMAPPED, host.map.address("status"), host.map.address("rx_status", 1), size - 8):
            core.mmio_write(offset, 1)
        host.start(1)
        host.write("rx_fill_size", 1, 8)
        result["unmapped"] = core.mmio_read(UNMAPPED) == ALL_ONES
        result["write only"] = host.read("arm", 0) == ALL_ONES
        result["works"] = host.read("id") == host.map.port["id"].reset
        result["read errors"] = core.mmio_read_errors
        result["refused"] = [host.map.describe(write.offset) for write in host.platform.refused]

    host.run(process)
    return result


def driven(backend: Backend, machine: MachineConfig, direction: str) -> dict[str, Any]:
    """A run of the driver on two queues, in which one descriptor amid the traffic gets length 0."""
    traffic = Traffic("64", frames=400, flows=8, queues=2, seed=3, load="0.2")
    scenario = Scenario(backend, machine, RunConfig(traffic, verdict="tx", queues=2, ring=64))
    place, name = {"rx": (fill, "pack_fill"), "tx": (transmit, "pack_tx")}[direction]
    real, left = getattr(place, name), 200

    def spoiled(address: int, length: int, *rest: int) -> bytes:
        nonlocal left
        left -= 1
        return real(address, length if left else 0, *rest)

    message = ""
    with mock.patch.object(place, name, spoiled):
        try:
            scenario.run()
        except RunError as failure:
            message = str(failure)
    return {
        "message": message,
        "faults": [[fault.queue, fault.direction, fault.error.name] for fault in scenario.driver.faults],
        "offered": [len(frames) for frames in scenario._expected()],
        "received": [pair.statistics.rx_completed for pair in scenario.driver.queues],
        "arrived": scenario.statistics["rx_frames"],
        "dropped": sum(
            value for counter, value in scenario.statistics.items() if "_drop_" in counter and "xdp" not in counter
        ),
        "left": [scenario.host.pages_in_use, scenario.driver.in_flight],
    }
