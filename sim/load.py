# SPDX-License-Identifier: BSD-2-Clause
"""A machine whose device is a DMA load generator."""

from dataclasses import dataclass, field

from hw.config import NicConfig
from sim.config import MachineConfig
from sim.host.load_generator import LoadGenerator
from sim.machine import Machine


@dataclass(frozen=True)
class LoadMachineConfig(MachineConfig):
    """A machine with a :class:`~sim.host.load_generator.LoadGenerator` in the NIC's place: 512
    bits and 250 MHz if nothing is said. Of ``nic``, only the width, the clock and the size of the register space
    count."""

    nic: NicConfig = field(default_factory=lambda: NicConfig(data_width=512, clock_khz=250_000, queues=1))
    host_width: int = 512

    def build(self) -> Machine:
        """The hardware."""
        return Machine(self, LoadGenerator(self.nic))
