# SPDX-License-Identifier: BSD-2-Clause
"""Who a DMA access is for: the AXI user field that an IOMMU looks at."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.abi.rings import AddressType, Sideband
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.queue_register import QueueRegister


class SidebandTable(wiring.Component):
    """The sideband of each queue's accesses: the port's device, and the process of the queue's CONTEXT register.

    All addresses are untranslated, where commands do not say otherwise. Those that are translated, or are to be, have
    no process: a translation can be carried for others. The lookup is combinational; a write to CONTEXT counts from the
    next cycle.

    Members
    -------
    write : QueueWrite, the broadcast of register writes
    device_id : register DEVICE.device_id
    queue, address_type : whose access it is, and what its address is
    sideband : Sideband, in the same cycle
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "write": In(QueueWrite(config)),
                "device_id": In(24),
                "queue": In(range(config.queues)),
                "address_type": In(AddressType),
                "sideband": Out(Sideband),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        fields = register_map(self._config.queues).queue["context"].fields
        process_id, valid = fields["process_id"], fields["process_id_valid"]
        width = max(process_id.lsb + process_id.width, valid.lsb + valid.width)
        m.submodules.context = context = QueueRegister(self._config, "context", width=width)
        wiring.connect(m, context.write, wiring.flipped(self.write))
        value, kind = context.reads[0].value, self.address_type
        has_process = (kind == AddressType.UNTRANSLATED) | (kind == AddressType.PREFETCH)
        m.d.comb += [
            context.reads[0].queue.eq(self.queue),
            self.sideband.device_id.eq(self.device_id),
            self.sideband.process_id.eq(value[process_id.lsb :][: process_id.width]),
            self.sideband.process_id_valid.eq(value[valid.lsb] & has_process),
            self.sideband.address_type.eq(kind),
        ]
        return m
