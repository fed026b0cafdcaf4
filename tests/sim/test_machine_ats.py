# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU's invalidations reach a device that takes them, and their completions come back, over the link."""

from typing import Any

import pytest

from hw.abi.codec import Codec
from hw.abi.iommu import AtsCommand, FenceCommand, Opcode
from hw.abi.iommu_registers import iommu_registers
from hw.config import IommuConfig, NicConfig
from sim.backends.base import Backend, launch
from sim.host.link_config import LINK_PRESETS
from sim.host.mailbox import MailboxClient, RegisterRead
from tests.sim.ats_device import AtsMachineConfig

HERE = "tests.sim.test_machine_ats"
QUEUE, DATA = 0x4000, 0x8000
TIMEOUT = 2000
CONFIG = AtsMachineConfig(
    nic=NicConfig(queues=1),
    link=LINK_PRESETS["gen3-x8"],
    host_width=128,
    memory_size=1 << 20,
    iommu=IommuConfig(ats_timeout_cycles=TIMEOUT),
)
COMMANDS = (
    Codec(AtsCommand).pack(opcode=Opcode.ATS.value, rid=0x12, payload=0x5000),
    Codec(FenceCommand).pack(opcode=Opcode.IOFENCE.value, av=1, data=0xCAFE, address=DATA >> 2),
)


def fence(backend: Backend, config: AtsMachineConfig, argument: None) -> dict[str, Any]:
    """Cycles from the tail's write to the fence's data, 0 if it does not come; and then cqcsr."""
    base, registers, client = config.iommu_registers, iommu_registers(), MailboxClient(backend)
    assert base is not None
    memory = backend.storage["memory"]
    for place, command in enumerate(COMMANDS):
        memory[QUEUE + 16 * place : QUEUE + 16 * (place + 1)] = list(command)

    def write(name: str, **fields: int) -> None:
        register = registers[name]
        client.write_register(base + register.offset, register.pack(**fields), register.width // 8)

    write("cqb", log2sz_1=3, ppn=QUEUE >> 12)
    write("cqcsr", cqen=1)
    backend.advance(backend.cycle + 500)
    write("cqt", index=len(COMMANDS))
    start, end = backend.cycle, 0
    token = backend.watch("memory", DATA, DATA + 4)
    while backend.cycle < start + 2 * TIMEOUT and not end:
        backend.advance(start + 2 * TIMEOUT)
        if memory[DATA] == 0xFE:
            end = backend.cycle
    backend.unwatch(token)
    client.read_register(base + registers["cqcsr"].offset)
    backend.advance(backend.cycle + 500)
    (event,) = client.events()
    assert isinstance(event, RegisterRead)
    return {"taken": end and end - start, "timed_out": registers["cqcsr"].get(event.value, "cmd_to")}


@pytest.mark.parametrize("backend", ["amaranth", "verilator"])
def test_a_fence_waits_for_a_round_trip_of_the_link(backend: str) -> None:
    seen = launch(backend, CONFIG, f"{HERE}:fence")
    latency = CONFIG.link.latency_cycles(CONFIG.nic.clock_khz)
    assert not seen["timed_out"]
    assert 2 * latency < seen["taken"] < 2 * latency + 400


def test_where_the_device_takes_none_it_times_out() -> None:
    seen = launch("verilator", AtsMachineConfig(**{**vars(CONFIG), "deaf": True}), f"{HERE}:fence")
    assert seen == {"taken": 0, "timed_out": 1}
