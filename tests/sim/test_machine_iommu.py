# SPDX-License-Identifier: BSD-2-Clause
"""Where the IOMMU sits in the machine, with a small one in its place: registers, wires, walks, the way to memory."""

from typing import Any

import pytest

from driver_model.platform import IOMMU_VECTOR
from hw.config import IommuConfig, NicConfig
from sim.backends.base import BACKENDS, Backend, launch
from sim.config import MachineConfig
from sim.host.dram_config import DramConfig
from sim.host.link_config import LINK_PRESETS
from sim.host.mailbox import Interrupt, MailboxClient, RegisterRead, WriteError
from sim.machine import Machine
from tests.sim.identity_iommu import IdentityIommu
from tests.sim.loop_device import LoopDevice, LoopMachineConfig

HERE = "tests.sim.test_machine_iommu"
EXERCISE = "tests.sim.test_machine:exercise"
WORD = 0x2118  #: an address that no beat of a wide memory begins at
CONFIG = LoopMachineConfig(
    nic=NicConfig(queues=1),
    link=LINK_PRESETS["gen3-x8"],
    host_width=128,
    memory_size=1 << 20,
    iommu=IommuConfig(),
    access_log=True,
)


def collect(backend: Backend, client: MailboxClient, count: int) -> list[Any]:
    """That many events."""
    events: list[Any] = []
    limit = backend.cycle + 2000
    while len(events) < count:
        assert backend.advance(limit) < limit, f"event {len(events)} of {count} did not come in 2000 cycles"
        assert backend.hits() == [client.token]
        events += client.events()
    return events


def use(backend: Backend, config: LoopMachineConfig, argument: None) -> dict[str, Any]:
    """Registers of both, the walker's port and the wires."""
    base = config.iommu_registers
    assert base is not None
    client = MailboxClient(backend)
    seen: dict[str, Any] = {}
    backend.storage["memory"][WORD : WORD + 8] = range(1, 9)
    client.write_register(base, 0xFFFF_FFFF_FFFF_FFFF)
    client.write_register(base, WORD, 4)
    client.write_register(base + 4, 0, 4)
    client.read_register(base)
    client.read_register(base + 16)
    client.read_register(24)
    client.read_register(base - 8)
    client.write_register(base + 24, 0)
    client.write_register(base + 4096, 0)
    events = collect(backend, client, 6)
    client.write_register(8, 0)
    events += collect(backend, client, 1)
    seen["reads"] = [[each.offset, each.value, each.error] for each in events if isinstance(each, RegisterRead)]
    seen["refused"] = [each.offset for each in events if isinstance(each, WriteError)]
    for wires in (0b0101, 0b0111, 0b0011, 0b0111):
        client.write_register(base + 8, wires)
    client.write_register(0, 0x3000)
    interrupts = collect(backend, client, 5)
    assert {type(each) for each in interrupts} == {Interrupt}
    seen["vectors"] = [each.vector for each in interrupts]
    seen["cycle"] = backend.cycle
    return seen


@pytest.mark.parametrize("stalls", [False, True])
def test_registers_wires_and_walks(stalls: bool) -> None:
    config = LoopMachineConfig(**{**vars(CONFIG), "stalls": stalls})
    seen = launch("verilator", config, f"{HERE}:use")
    assert launch("amaranth", config, f"{HERE}:use") == seen
    base = config.iommu_registers
    assert seen["reads"] == [
        [base, WORD, False],
        [base + 16, 0x0807_0605_0403_0201, False],
        [24, 0, True],
        [base - 8, 0, True],
    ]
    assert seen["refused"] == [base + 24, base + 4096, 8]
    assert seen["vectors"] == [IOMMU_VECTOR, IOMMU_VECTOR + 2, IOMMU_VECTOR + 1, IOMMU_VECTOR + 2, 9]


def test_a_device_reaches_memory_through_it() -> None:
    """What crosses the machine does so as without an IOMMU, in the same cycles, for this one takes none."""
    plain = LoopMachineConfig(**{**vars(CONFIG), "iommu": None})
    assert launch("amaranth", CONFIG, EXERCISE, 2) == launch("amaranth", plain, EXERCISE, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stalls_reach_every_stream(backend: str) -> None:
    config = LoopMachineConfig(**{**vars(CONFIG), "stalls": True})
    launch(backend, config, EXERCISE, 2)


def test_the_iommu_has_the_width_of_memory() -> None:
    assert CONFIG.iommu is not None
    assert CONFIG.iommu.data_width == 128
    assert MachineConfig().iommu_registers is None


def test_parameters_are_validated() -> None:
    with pytest.raises(TypeError, match="iommu must be an IommuConfig or None, not True"):
        MachineConfig(iommu=True)
    with pytest.raises(TypeError, match="iommu_register_ns must be a number, not '50'"):
        MachineConfig(iommu_register_ns="50")
    with pytest.raises(ValueError, match="iommu_register_ns must be in 0..100000, not -1"):
        MachineConfig(iommu_register_ns=-1)
    with pytest.raises(ValueError, match="dram.monitors must be at least iommu.walks = 4, .* not 2"):
        MachineConfig(iommu=IommuConfig(), dram=DramConfig(monitors=2))
    for config, iommu in ((CONFIG, None), (LoopMachineConfig(), IdentityIommu(IommuConfig()))):
        with pytest.raises(ValueError, match="A machine has an IOMMU where its configuration has one"):
            Machine(config, LoopDevice(config.nic), iommu)


def read_twice(backend: Backend, config: LoopMachineConfig, argument: None) -> list[int]:
    """Cycles that a read of the IOMMU's and one of the device's registers take."""
    base = config.iommu_registers
    assert base is not None
    client = MailboxClient(backend)
    taken = []
    for offset in (base, 0):
        start = backend.cycle
        client.read_register(offset)
        (event,) = collect(backend, client, 1)
        taken.append(event.cycle - start)
    return taken


def test_the_way_to_the_iommus_registers_takes_its_time() -> None:
    near = LoopMachineConfig(**{**vars(CONFIG), "iommu_register_ns": 0})
    far = LoopMachineConfig(**{**vars(CONFIG), "iommu_register_ns": 100})
    (least, device), (most, same) = (launch("amaranth", config, f"{HERE}:read_twice") for config in (near, far))
    assert device == same
    assert far.iommu_register_cycles == 16
    assert most - least == 2 * 16
    assert CONFIG.iommu_register_cycles == 8
    assert LoopMachineConfig(**{**vars(CONFIG), "iommu_register_ns": 1}).iommu_register_cycles == 2
