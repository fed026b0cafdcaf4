# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU behind flat AXI ports."""

from typing import Any

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hw.abi.iommu_registers import ADDRESS_BITS
from hw.config import IommuConfig
from hw.export.pins import (
    INVALIDATION_COMPLETION,
    INVALIDATION_REQUEST,
    axi4_pins,
    axi_lite_pins,
    channel_pins,
    join_axi4_manager,
    join_axi4_subordinate,
    join_axi_lite,
    join_sink,
    join_source,
)
from hw.iommu.iommu import Iommu
from hw.iommu.walk_port import WIDTH

AXI_ID_WIDTH = 8


class ExportedIommu(wiring.Component):
    """:class:`hw.iommu.iommu.Iommu` behind ports named as in AXI.

    ====================  ==============================================================================================
    ``clk``, ``rst``      the one clock; synchronous reset, active high
    ``s_axi_*``           AXI4 subordinate: devices. ``awuser`` and ``aruser`` say who asks
                          (:class:`hw.abi.rings.Sideband`): device_id [23:0], process_id [43:24], process_id is valid
                          [44], address type [46:45]: 0 untranslated, 1 translation request, 2 translated, 3 prefetch.
                          Reads of types 1 and 3 have one beat and no data from memory
                          (:class:`hw.iommu.read_channel.ReadChannel`); give prefetches an ID of their own. Every burst
                          is taken as INCR; ``burst``, ``cache``, ``prot``, ``qos`` and ``region`` are ignored
    ``m_axi_*``           AXI4 manager: memory. The devices' bursts with physical addresses, IDs and ``user`` as they
                          came; ``cache`` is constant, for responses that come from memory itself
    ``m_axi_walk_*``      AXI4 manager of 64 bits: the IOMMU's own accesses to directory, tables and queues. With
                          ``hardware_ad`` A and D bits are set by exclusive accesses, which memory must support: where
                          it answers an exclusive read OKAY rather than EXOKAY, leave ``hardware_ad`` off
    ``s_axil_*``          AXI4-Lite subordinate of 64 bits: 4 KiB of registers
    ``interrupts``        a wire for each vector, active high (IGS = WSI)
    ``invalidate_*``      only with ``ats``: stream of ATS invalidation requests to devices
    ``invalidated_*``     only with ``ats``: stream of their completions
    ====================  ==============================================================================================
    """

    NAME = "pagewheel_iommu"

    def __init__(self, config: IommuConfig):
        self._config = config
        members = {"interrupts": Out(config.vectors)}
        members |= axi4_pins("s_axi", config.data_width, AXI_ID_WIDTH, manager=False)
        members |= axi4_pins("m_axi", config.data_width, AXI_ID_WIDTH)
        members |= axi4_pins("m_axi_walk", WIDTH, AXI_ID_WIDTH, user=False)
        members |= axi_lite_pins("s_axil", ADDRESS_BITS)
        if config.ats:
            members |= channel_pins("invalidate_", INVALIDATION_REQUEST, source=True)
            members |= channel_pins("invalidated_", INVALIDATION_COMPLETION, source=False)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.iommu = iommu = Iommu(self._config, id_width=AXI_ID_WIDTH)
        join_axi4_subordinate(m, self, "s_axi", iommu.device)
        join_axi4_manager(m, self, "m_axi", iommu.memory)
        join_axi4_manager(m, self, "m_axi_walk", iommu.walker, user=False)
        join_axi_lite(m, self, "s_axil", iommu.registers)
        if self._config.ats:
            join_source(m, self, "invalidate_", iommu.invalidate, INVALIDATION_REQUEST)
            join_sink(m, self, "invalidated_", iommu.invalidated, INVALIDATION_COMPLETION)
        m.d.comb += self.interrupts.eq(iommu.interrupts)
        return m
