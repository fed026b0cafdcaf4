# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU in a run: its driver, the mode in which the NIC uses it, and what both counted."""

from collections.abc import Sequence
from typing import Any

from driver_model.drivers.host import Host
from driver_model.drivers.iommu.driver import IommuSetup, RiscvIommu
from driver_model.drivers.iommu.faults import IommuFault
from driver_model.memory.dma.api import DmaOps
from driver_model.memory.dma.iommu_ops import IommuDma
from hw.abi.iommu import Event
from hw.config import IommuConfig

DEVICE_ID = 0x10  #: of the NIC
EVENTS: tuple[Any, ...] = (Event.UNTRANSLATED, Event.TLB_MISS, Event.TABLE_READ, Event.INVALIDATED)


class IommuUse:
    """Drives the IOMMU of a machine for one device. Methods are called in a process on the host's first core.

    Parameters
    ----------
    host : the kernel, before the device's driver is opened
    mode : ``passthrough``, ``lazy`` or ``strict``
    config : the IOMMU's parameters
    setup : how the driver uses it
    events : what is counted, as far as there are counters
    """

    def __init__(
        self,
        host: Host,
        mode: str,
        config: IommuConfig,
        *,
        setup: IommuSetup | None = None,
        events: Sequence[Any] = EVENTS,
    ) -> None:
        self.mode = mode
        self.driver = RiscvIommu(host, setup)
        self._events = tuple(events[: config.counters])
        self._ops: DmaOps
        self._before: dict[str, int] = {}

    @property
    def faults(self) -> list[IommuFault]:
        """Accesses that were refused, as far as the driver kept them."""
        return self.driver.faults.faults

    def open(self) -> None:
        """Set the IOMMU up and attach the device."""
        self.driver.probe()
        self.driver.open()
        self._ops = self.driver.set_up_dma(DEVICE_ID, self.mode)

    def start(self) -> None:
        """Count from here on."""
        self.driver.count_events(self._events)
        self._before = self._counted()

    def counters(self) -> dict[str, int]:
        """What happened since :meth:`start`: the performance counters' events, and what the software did."""
        after = self._counted() | self.driver.event_counts()
        return {name: value - self._before.get(name, 0) for name, value in after.items()}

    def close(self) -> None:
        """Detach the device, which has given everything back, and turn the IOMMU off."""
        self.driver.tear_down_dma(DEVICE_ID, self._ops)
        self.driver.close()

    def _counted(self) -> dict[str, int]:
        software = self._ops.statistics() if isinstance(self._ops, IommuDma) else {}
        return self.driver.statistics() | software
