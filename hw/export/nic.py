# SPDX-License-Identifier: BSD-2-Clause
"""The NIC behind flat AXI ports."""

from dataclasses import replace
from typing import Any

from amaranth import ClockDomain, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import NicConfig
from hw.export.pins import (
    INVALIDATION_COMPLETION,
    INVALIDATION_REQUEST,
    axi4_pins,
    axi_lite_pins,
    channel_pins,
    join_axi4_manager,
    join_axi_lite,
    join_sink,
    join_source,
)
from hw.nic.nic import AXI_ID_WIDTH, VECTOR_BITS, Nic


class ExportedNic(wiring.Component):
    """:class:`hw.nic.nic.Nic` behind ports named as in AXI. The simulation-only frame number is left out whatever
    ``config.serial_width`` says.

    ====================  ==============================================================================================
    ``clk``, ``rst``      the one clock; synchronous reset, active high, which counts two cycles later
    ``m_axi_*``           AXI4 manager. ``awuser`` and ``aruser`` carry :class:`hw.abi.rings.Sideband`
    ``s_axil_*``          AXI4-Lite subordinate: the registers
    ``s_axis_rx_*``       AXI4-Stream from the MAC, without FCS: ``tkeep`` contiguous from lane 0 and full but in the
                          last beat; ``tuser`` with ``tlast``: damaged. ``tready`` is always high
    ``m_axis_tx_*``       AXI4-Stream to the MAC, without FCS; ``tvalid`` stays high inside a frame; ``tuser`` is 0
    ``interrupt_*``       stream of vectors; each is held until ``interrupt_ready``
    ``carrier``           the link is up; synchronous to ``clk``
    ``ats_invalidate_*``  only with ``ats``: stream of ATS invalidation requests from an IOMMU
    ``ats_invalidated_*`` only with ``ats``: stream of their completions
    ====================  ==============================================================================================
    """

    NAME = "pagewheel_nic"

    def __init__(self, config: NicConfig):
        self._config = replace(config, serial_width=0, probes=False)
        members: dict[str, Any] = {"clk": In(1), "rst": In(1), "carrier": In(1)}
        members |= {"interrupt_vector": Out(VECTOR_BITS), "interrupt_valid": Out(1), "interrupt_ready": In(1)}
        members |= axi4_pins("m_axi", config.data_width, AXI_ID_WIDTH)
        members |= axi_lite_pins("s_axil", config.mmio_addr_width)
        packet = {"data": config.data_width, "keep": config.beat_bytes, "last": 1, "user": 1}
        members |= channel_pins("s_axis_rx_t", packet, source=False)
        members |= channel_pins("m_axis_tx_t", packet, source=True)
        if config.ats:
            members |= channel_pins("ats_invalidate_", INVALIDATION_REQUEST, source=False)
            members |= channel_pins("ats_invalidated_", INVALIDATION_COMPLETION, source=True)
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # The NIC distributes its reset itself, from registers.
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.nic = nic = Nic(self._config)
        join_axi4_manager(m, self, "m_axi", nic.axi)
        join_axi_lite(m, self, "s_axil", nic.registers)
        self._connect_packets(m, nic)
        if self._config.ats:
            join_sink(m, self, "ats_invalidate_", nic.ats_invalidate, INVALIDATION_REQUEST)
            join_source(m, self, "ats_invalidated_", nic.ats_invalidated, INVALIDATION_COMPLETION)
        m.d.comb += [
            domain.clk.eq(self.clk),
            nic.power_on.eq(self.rst),
            nic.carrier.eq(self.carrier),
            self.interrupt_vector.eq(nic.interrupt.payload),
            self.interrupt_valid.eq(nic.interrupt.valid),
            nic.interrupt.ready.eq(self.interrupt_ready),
        ]
        return m

    def _connect_packets(self, m: Module, nic: Nic) -> None:
        lanes = self._config.beat_bytes
        rx, tx = nic.wire_rx, nic.wire_tx
        first = Signal(init=1)
        with m.If(self.rst):
            m.d.sync += first.eq(1)
        with m.Elif(rx.valid & rx.ready):
            m.d.sync += first.eq(rx.payload.last)
        m.d.comb += [
            rx.valid.eq(self.s_axis_rx_tvalid),
            self.s_axis_rx_tready.eq(rx.ready),
            rx.payload.data.eq(self.s_axis_rx_tdata),
            rx.payload.first.eq(first),
            rx.payload.last.eq(self.s_axis_rx_tlast),
            rx.payload.error.eq(self.s_axis_rx_tlast & self.s_axis_rx_tuser),
            self.m_axis_tx_tvalid.eq(tx.valid),
            tx.ready.eq(self.m_axis_tx_tready),
            self.m_axis_tx_tdata.eq(tx.payload.data),
            self.m_axis_tx_tkeep.eq((Const(1, lanes + 1) << tx.payload.count) - 1),
            self.m_axis_tx_tlast.eq(tx.payload.last),
            self.m_axis_tx_tuser.eq(tx.payload.error),
        ]
        # Contiguous lanes: the highest valid one tells how many there are.
        for lane in range(lanes):
            with m.If(self.s_axis_rx_tkeep[lane]):
                m.d.comb += rx.payload.count.eq(lane + 1)
