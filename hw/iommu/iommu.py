# SPDX-License-Identifier: BSD-2-Clause
"""The IOMMU: translation of a device's accesses by tables in memory."""

from typing import Any

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.abi.iommu_registers import ADDRESS_BITS
from hw.bus.axi4 import AXI4Signature
from hw.bus.axi4_mux import AXI4Mux
from hw.bus.axi_lite import AXILiteSignature
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.control import IommuControl
from hw.iommu.read_channel import ReadChannel
from hw.iommu.translator import Translator
from hw.iommu.walk_port import COMMANDS_ID, FAULT_ID, FENCE_ID, WIDTH
from hw.iommu.write_channel import WriteChannel


class Iommu(wiring.Component):
    """A RISC-V IOMMU (architecture specification 1.0) between devices and memory::

        device ═╦═► WriteChannel ══════════════════════════════════════════╦═► memory
                ╚═► ReadChannel ═══════════════════════════════════════════╝
                       │ translations              ▲ fences    │ faults
                       ▼                           │           ▼
                    Translator ◄─ invalidations ─ IommuControl ─► interrupts
                    2 Lookup, Iotlb,  ◄─ directory ─ │  ▲  │ ◄── registers
                    ContextCache,     ── events ──►  │  │  └──► invalidate, invalidated (ATS)
                    WalkTable, Walker,               │  │
                    WalkCaches                       │  │
                       │ walks                queues │  │
                       └────────► AXI4Mux ◄──────────┘  │
                                     └─► walker         │

    Who asks comes with each address (:class:`hw.abi.rings.Sideband`). Writes keep their order whatever their IDs, reads
    that of their ID; a hit adds 4 cycles, and each channel sustains one burst a cycle. A faulting write changes
    nothing, a faulting read learns nothing, and both are answered SLVERR: see :class:`WriteChannel` and
    :class:`ReadChannel`. A burst is translated as a whole: one that goes beyond 4 KiB, which AXI forbids (IHI 0022,
    A3.4.1), is an access fault wherever there is a stage to translate it.

    Reads of type TRANSLATION_REQUEST and PREFETCH bring no data: see :class:`ReadChannel`. A device must acknowledge an
    invalidation only when it has the responses to all that it sent with the translation in question; IOFENCE.C, which
    comes after the acknowledgement, then waits for nothing of it any more. Until then ``invalidate`` is not offered
    while the device could still get an answer from before: see :class:`hw.iommu.command_queue.CommandQueue`.

    After reset the directory is off: everything is refused (cause 256) until software writes ddtp.

    Parameters
    ----------
    config : see :class:`hw.config.IommuConfig`
    id_width : bits of the AXI IDs of ``device`` and ``memory``

    Ports
    -----
    device : AXI4 from devices, with addresses of their own
    memory : AXI4 with physical addresses, otherwise as it came, ``user`` included
    walker : 64-bit AXI4 for tables and queues, with exclusive accesses where ``hardware_ad``. A walk's ID is its
        number; commands are read with ID 64, fault records written with 65, data of fences with 66
    registers : AXI4-Lite, one page
    interrupts : a level for each vector
    invalidate, invalidated : messages that invalidate a device's own translations (ATS), and their completions
    """

    def __init__(self, config: IommuConfig, *, id_width: int = 8):
        if not isinstance(config, IommuConfig):
            raise TypeError(f"config must be an IommuConfig, not {config!r}")
        self.config = config
        self.id_width = id_width
        axi = AXI4Signature(config.data_width, id_width=id_width)
        super().__init__(
            {
                "device": In(axi),
                "memory": Out(axi),
                "walker": Out(AXI4Signature(WIDTH)),
                "registers": In(AXILiteSignature(ADDRESS_BITS)),
                "interrupts": Out(config.vectors),
                "invalidate": Out(stream.Signature(InvalidationRequest)),
                "invalidated": In(stream.Signature(InvalidationCompletion)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.submodules.write = write = WriteChannel(config, id_width=self.id_width)
        m.submodules.read = read = ReadChannel(config, id_width=self.id_width)
        m.submodules.translator = translator = Translator(config)
        m.submodules.control = control = IommuControl(config)
        queues = (COMMANDS_ID, FAULT_ID, FENCE_ID)
        m.submodules.walk_port = walk_port = AXI4Mux(WIDTH, range(config.walks), queues)

        for index, (channel, names) in enumerate(((write, ("aw", "w", "b")), (read, ("ar", "r")))):
            for name in names:
                device, memory = getattr(channel.device, name), getattr(channel.memory, name)
                for outer, inner in ((self.device, device), (self.memory, memory)):
                    join(m, flipped(getattr(outer, name)), inner)
            join(m, channel.fault, control.faults[index])
            join(m, control.fences[index], channel.fence)
            m.d.comb += [
                control.events.lookups[index].eq(translator.events.lookups[index]),
                control.events.faults[index].eq(channel.faulted),
            ]
        join(m, write.translation, translator.write)
        join(m, read.translation, translator.read)

        join(m, control.fences[2], translator.fence)
        join(m, control.debug_walk, translator.debug_walk)
        join(m, control.debug_claim, translator.debug_claim)
        join(m, control.invalidations, translator.invalidation)
        m.d.comb += [
            translator.directory.eq(control.directory),
            control.events.walk.eq(translator.events.walk),
            control.events.invalidated.eq(translator.events.invalidated),
            self.interrupts.eq(control.interrupts),
        ]
        join(m, translator.axi, walk_port.managers[0])
        join(m, control.axi, walk_port.managers[1])
        join(m, walk_port.memory, flipped(self.walker))
        join(m, flipped(self.registers), control.registers)
        join(m, control.invalidate, flipped(self.invalidate))
        join(m, flipped(self.invalidated), control.invalidated)
        return m
