# SPDX-License-Identifier: BSD-2-Clause
"""Software that gives the device addresses which the IOMMU refuses, on a whole machine: what software sees of it."""

from typing import Any

from driver_model.drivers.iommu.registers import IommuRegisters
from hw.abi.codec import Codec
from hw.abi.iommu import Cause, DirectoryMode, FaultRecord, TransactionType
from hw.abi.rings import CompletionError
from sim.backends.base import Backend
from sim.config import MachineConfig
from tests.cosim.hostile import (
    ENTRIES,
    FILL,
    FRAME,
    QUEUE_BYTES,
    RX_BUFFERS,
    RX_DONE,
    TX,
    TX_BUFFERS,
    TX_DONE,
    US,
    Hostile,
    pack,
)
from tests.golden import model
from tests.golden.paging import PTE_D, PTE_W, SV39, Memory
from tests.golden.tables import LEAF, PAGE, Context, Tables

RECORD = Codec(FaultRecord)
DEVICE = 0x15
FAULT_ENTRIES = 128
HOLE = 0x7000_0000  #: where nothing is mapped
READ_ONLY, EDGE = 0x7100_0000, 0x7200_0000  #: a page that may not be written; the end of one, with nothing behind it
PHYSICAL = 0x8_0000  #: behind them
COUNT = 3  #: frames for each queue, and from it
SENT = 0x80  #: marks frames that are sent
#: What is wrong with queue 0: registers, its first buffer for receiving, its first frame to send.
CASES: dict[str, tuple[dict[str, int], int | None, int | None]] = {
    "nothing": ({}, None, None),
    "buffer": ({}, HOLE, None),
    "buffer read only": ({}, READ_ONLY, None),
    "buffer over the edge": ({}, EDGE + PAGE - 64, None),
    "frame": ({}, None, HOLE),
    "frame over the edge": ({}, None, EDGE + PAGE - 64),
    "fill ring": ({"rx_fill_base": HOLE}, None, None),
    "tx ring": ({"tx_ring_base": HOLE}, None, None),
    "rx completions": ({"rx_completion_base": HOLE}, None, None),
    "tx completions": ({"tx_completion_base": HOLE}, None, None),
}


def frame(queue: int, number: int) -> bytes:
    """Of a queue; no two are alike in any eight bytes."""
    words = (queue << 56 | number << 40 | place << 8 | 0xA5 for place in range(FRAME // 8))
    return (bytes([2, 0, 0, 0, 0, queue, 0, number]) + b"".join(word.to_bytes(8, "little") for word in words))[:FRAME]


class Translated(Hostile):
    """The machine, whose queues' memory is mapped for the device to where it is."""

    def __init__(self, backend: Backend, machine: MachineConfig) -> None:
        super().__init__(backend, machine)
        assert machine.iommu_registers is not None
        self.iommu = IommuRegisters(machine.iommu_registers)
        memory = backend.storage["memory"].data
        self.tables = Tables(Memory(memory), list(range(0x1FF, 0x100, -1)))
        self.directory, self.faults, self.root = (self.tables.take() for _ in range(3))
        for page in range(QUEUE_BYTES // PAGE, 3 * QUEUE_BYTES // PAGE):
            self.tables.map(SV39, self.root, page * PAGE, page)
        self.tables.map(SV39, self.root, READ_ONLY, PHYSICAL // PAGE, flags=LEAF & ~PTE_W & ~PTE_D)
        self.tables.map(SV39, self.root, EDGE, PHYSICAL // PAGE + 1)
        context = Context.of(first=(SV39, self.root), pscid=1)
        self.tables.put_context(model.DirectoryMode.LVL1, self.directory, DEVICE, context)

    def translate(self) -> None:
        """Turn fault queue and translation on."""
        iommu, core = self.iommu, self.core
        iommu.write(core, "fqb", log2sz_1=FAULT_ENTRIES.bit_length() - 2, ppn=self.faults)
        iommu.write(core, "fqcsr", fqen=1)
        iommu.wait(core, "fqcsr", lambda word: iommu.get("fqcsr", word, "fqon"), "the fault queue to turn on")
        iommu.write(core, "ddtp", iommu_mode=DirectoryMode.LVL1.value, ppn=self.directory)
        iommu.wait(core, "ddtp", lambda word: not iommu.get("ddtp", word, "busy"), "the directory to change")
        self.write("device", device_id=DEVICE)

    def records(self) -> list[list[Any]]:
        """Cause, TTYP, device and address of each refused access."""
        found = []
        for index in range(self.iommu.read(self.core, "fqt")):
            at = self.faults * PAGE + index * RECORD.size
            record = RECORD.unpack(self.platform.read(at, RECORD.size))
            found.append([Cause(record.cause).name, TransactionType(record.ttyp).name, record.did, record.iotval])
        return found

    def post_buffers(self, queue: int, first: int | None) -> None:
        """Half a ring, the first one elsewhere."""
        for index in range(ENTRIES // 2):
            address = self.at(queue, RX_BUFFERS, index, 2048)
            wrong = first is not None and not index
            self.core.store(self.at(queue, FILL, index), pack(first if wrong else address, 2048, index))
        self.write("rx_doorbell", queue, fill_producer=ENTRIES // 2)

    def send_frames(self, queue: int, first: int | None) -> None:
        """Send frames, the first one from elsewhere, and ask for their completions."""
        for index in range(COUNT):
            address = self.at(queue, TX_BUFFERS, index, 2048)
            self.core.store(address, frame(queue | SENT, index))
            wrong = first is not None and not index
            self.core.store(self.at(queue, TX, index), pack(first if wrong else address, FRAME, 0, 1 | 0b11 << 24))
        self.write("tx_doorbell", queue, producer=COUNT)

    def completions(self, queue: int, part: int) -> list[str]:
        """Errors of those that are there, in order."""
        errors = []
        for index in range(COUNT):
            raw = self.platform.read(self.at(queue, part, index), 16)
            if raw[15] & 0x80:
                errors.append(CompletionError(raw[14] & 15).name)
        return errors


def refused(backend: Backend, machine: MachineConfig, names: list[str]) -> dict[str, Any]:
    """Job: each case on a machine just after reset; frames come for both queues, and both send."""
    seen = {}
    for number, name in enumerate(names):
        if number:
            backend.reset()
        seen[name] = one(Translated(backend, machine), *CASES[name])
    return seen


def one(host: Translated, setup: dict[str, int], buffer: int | None, sent: int | None) -> dict[str, Any]:
    """What software sees of one case."""
    result: dict[str, Any] = {}

    def process() -> None:
        host.translate()
        host.platform.set_carrier(True)
        for queue, changes in ((0, setup), (1, {})):
            host.start(queue, **changes)
        host.write("control", rx_enable=1, tx_enable=1)
        for queue, wrong in ((0, buffer), (1, None)):
            host.post_buffers(queue, wrong)
        host.read("status")
        host.core.sleep_until(host.core.time + 5 * US)
        start = host.backend.cycle + 64
        arriving = [(queue, number) for number in range(COUNT) for queue in range(2)]
        host.player.play([(start + 100 * n, frame(*which), 0, False) for n, which in enumerate(arriving)])
        host.send_frames(0, sent)
        host.send_frames(1, None)
        host.core.sleep_until(host.core.time + 20 * US)
        for queue in range(2):
            for direction in ("rx", "tx"):
                result[f"{direction}{queue}"] = host.status(queue, direction)
            result[f"rx_errors{queue}"] = host.completions(queue, RX_DONE)
            result[f"tx_errors{queue}"] = host.completions(queue, TX_DONE)
            result[f"received{queue}"] = [
                host.platform.read(host.at(queue, RX_BUFFERS, index, 2048), FRAME) == frame(queue, index)
                for index in range(COUNT)
            ]
        result["counters"] = host.counters()
        result["sent"] = [[left.data[5] & ~SENT, left.data[7]] for left in host.recorder.recorded()]
        memory = host.platform.read(0, host.machine.memory_size)
        result["written"] = [place for place in range(8, FRAME, 8) if frame(0, 0)[place : place + 8] in memory]
        result["records"] = host.records()

    host.run(process)
    return result
