# SPDX-License-Identifier: BSD-2-Clause
"""The driver's bench with an IOMMU between the fake device and memory."""

from collections.abc import Callable
from typing import Any

from driver_model.drivers.iommu.driver import IommuSetup, RiscvIommu
from driver_model.memory.dma.api import Device, DmaDirection, DmaOps, dma_map_single, dma_mapping_error
from driver_model.memory.dma.iommu_ops import IommuDma
from driver_model.memory.pages.page import Page
from tests.driver_model.bench import Bench
from tests.driver_model.fake_iommu import FakeIommu, TranslatedNic

WRITE, READ = DmaDirection.FROM_DEVICE, DmaDirection.TO_DEVICE


class IommuBench(Bench):
    """See :class:`tests.driver_model.bench.Bench`; the IOMMU is set up by :meth:`open_iommu` or :meth:`start`."""

    def __init__(
        self,
        mode: str = "strict",
        strategy: str = "page_per_packet",
        *,
        setup: IommuSetup | None = None,
        capabilities: dict[str, int] | None = None,
        **config: Any,
    ) -> None:
        super().__init__(strategy, **config)
        self.mode = mode
        self.hardware = FakeIommu(self.platform, **(capabilities or {}))
        queues, logged = len(self.nic.queues), self.nic.accesses is not None
        self.nic = TranslatedNic(self.platform, self.hardware, queues, access_log=logged)
        self.iommu = RiscvIommu(self.host, setup)
        self.ops: DmaOps

    @property
    def dma(self) -> IommuDma:
        """The operations of modes strict and lazy."""
        assert isinstance(self.ops, IommuDma)
        return self.ops

    @property
    def dev(self) -> Device:
        """The device on the first core."""
        return self.host.devices[0]

    def open_iommu(self) -> None:
        """Probe and open it, and attach device 0; in a process."""
        self.iommu.probe()
        self.iommu.open()
        self.ops = self.iommu.set_up_dma(0, self.mode)

    def close_iommu(self) -> None:
        """Tear all of it down, in a process, and check that nothing is left."""
        self.iommu.tear_down_dma(0, self.ops)
        self.iommu.close()
        self.nothing_left()

    def run_open(self, body: Callable[[], Any], *, close: bool = True) -> Any:
        """Run a body in a process with the IOMMU open; with ``close``, check that nothing is left."""

        def process() -> Any:
            self.open_iommu()
            result = body()
            if close:
                self.close_iommu()
            return result

        return self.run(process)

    def start(self) -> None:
        self.open_iommu()
        super().start()

    def finish(self) -> None:
        self.driver.stop()
        self.close_iommu()

    def page(self) -> Page:
        """A page of memory."""
        page = self.dev.pages.alloc_pages()
        assert page is not None
        return page

    def map(self, page: Page, direction: DmaDirection = WRITE, core: int = 0) -> int:
        """Map a page on a core."""
        dev = self.host.devices[core]
        address = dma_map_single(dev, page.address, page.size, direction)
        assert not dma_mapping_error(dev, address)
        return address

    def reaches(self, address: int, *, write: bool = True) -> bool:
        """Whether a device's access gets through now, at the core's time."""
        self.core.sync()
        return self.hardware.translate(0, address, 64, write=write) is not None
