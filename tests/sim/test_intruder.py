# SPDX-License-Identifier: BSD-2-Clause
"""A second device in the machine: where it may be. What it does is seen in the experiment on protection."""

import pytest

from hw.config import NicConfig
from hw.nic.nic import Nic
from sim.config import INTRUDER_ID, INTRUDER_REGISTERS, IOMMU_REGISTERS, MachineConfig
from sim.host.load_generator import LoadGenerator
from sim.intruder import ProtectionMachineConfig
from sim.machine import Machine


def test_a_machine_without_iommu_has_no_place_for_it() -> None:
    config = MachineConfig()
    with pytest.raises(ValueError, match="without an IOMMU has no place for a second device"):
        Machine(config, Nic(config.nic), None, LoadGenerator(NicConfig(queues=1)))
    with pytest.raises(ValueError, match="iommu must be an IommuConfig where protection is looked at, not None"):
        ProtectionMachineConfig(iommu=None)


def test_it_is_told_apart_by_ids_and_registers() -> None:
    config = ProtectionMachineConfig(host_width=256)
    machine = config.build()
    assert config.intruder_registers == INTRUDER_REGISTERS
    assert MachineConfig().intruder_registers is None
    assert IOMMU_REGISTERS + (1 << machine.iommu.registers.signature.addr_width) <= INTRUDER_REGISTERS
    assert machine.intruder.first_id == INTRUDER_ID
    assert machine.intruder.axi.signature.data_width == 256
