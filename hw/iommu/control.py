# SPDX-License-Identifier: BSD-2-Clause
"""What software controls the IOMMU with: registers, queues, counters and interrupts, joined."""

from typing import Any

from amaranth import Cat, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.abi.iommu_registers import ADDRESS_BITS
from hw.bus.axi4 import AXI4Signature
from hw.bus.axi4_mux import AXI4Mux
from hw.bus.axi_lite import AXILiteSignature
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.command_queue import CommandQueue
from hw.iommu.counters import Counters
from hw.iommu.debug_translation import DebugTranslation
from hw.iommu.directory_register import DirectoryRegister
from hw.iommu.fault_queue import FaultQueue
from hw.iommu.fences import Fences
from hw.iommu.interfaces import (
    INVALIDATIONS,
    ClaimSignature,
    Directory,
    EventsSignature,
    FaultReport,
    FenceSignature,
    WalkSignature,
)
from hw.iommu.interrupts import IommuInterrupts
from hw.iommu.register_block import RegisterBlock
from hw.iommu.walk_port import COMMANDS_ID, FAULT_ID, FENCE_ID, WIDTH


class IommuControl(wiring.Component):
    """All of the IOMMU that no device access passes through::

        registers ─► RegisterBlock ─► (write, to all below; their registers come back)
                     DirectoryRegister ─► directory
                     CommandQueue ─► invalidations, invalidate      ─┐
        faults ─►    FaultQueue ◄─ DebugTranslation ─► walk, claim  ─┴─► AXI4Mux ─► axi
        events ─►    Counters, IommuInterrupts ─► interrupts
                     Fences ◄─► fences

    Contracts are those of the blocks.

    Ports
    -----
    registers : In, AXI4-Lite
        The register page.
    directory : Out
        Register ddtp.
    invalidations : Out, stream
        To the caches.
    fences : Out
        To the write channel, the read channel and the translator.
    faults : In, streams
        Of the write channel and the read channel.
    events : In
        For the performance counters.
    debug_walk, debug_claim : Out
        To the walk table.
    axi : Out, AXI4
        The queues in memory: commands are read with ID 64, fault records written with 65, fences' data with 66.
    interrupts : Out
        Wires, one for each vector.
    invalidate, invalidated : streams
        Messages to and from devices (ATS).
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "registers": In(AXILiteSignature(ADDRESS_BITS)),
                "directory": Out(Directory),
                "invalidations": Out(INVALIDATIONS),
                "fences": Out(FenceSignature()).array(3),
                "faults": In(stream.Signature(FaultReport)).array(2),
                "events": In(EventsSignature()),
                "debug_walk": Out(WalkSignature(config)),
                "debug_claim": Out(ClaimSignature(config)),
                "axi": Out(AXI4Signature(WIDTH)),
                "interrupts": Out(config.vectors),
                "invalidate": Out(stream.Signature(InvalidationRequest)),
                "invalidated": In(stream.Signature(InvalidationCompletion)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        m.submodules.registers = registers = RegisterBlock(config)
        m.submodules.directory = directory = DirectoryRegister(config)
        m.submodules.commands = commands = CommandQueue(config)
        m.submodules.faults = faults = FaultQueue(3)
        m.submodules.debug = debug = DebugTranslation(config)
        m.submodules.counters = counters = Counters(config)
        m.submodules.interrupts = interrupts = IommuInterrupts(config)
        m.submodules.fences = fences = Fences(2, 4)
        m.submodules.queues = queues = AXI4Mux(WIDTH, (COMMANDS_ID, FENCE_ID), (FAULT_ID,))

        for block in (directory, commands, faults, debug, counters, interrupts):
            m.d.comb += block.write.eq(registers.write)
        for block, names in (
            (directory, ("ddtp",)),
            (commands, ("cqh", "cqcsr")),
            (faults, ("fqt", "fqcsr")),
            (debug, ("tr_req_iova", "tr_req_ctl", "tr_response")),
            (interrupts, ("ipsr", "icvec")),
        ):
            m.d.comb += [getattr(registers, name).eq(getattr(block, name)) for name in names]
        m.d.comb += [
            counters.row.eq(registers.row),
            registers.counter.eq(counters.value),
            commands.cqb.eq(registers.cqb),
            commands.cqt.eq(registers.cqt),
            commands.mode.eq(directory.directory.mode),
            faults.fqb.eq(registers.fqb),
            faults.fqh.eq(registers.fqh),
            interrupts.cqcsr.eq(commands.cqcsr),
            interrupts.fqcsr.eq(faults.fqcsr),
            interrupts.recorded.eq(faults.recorded),
            interrupts.overflowed.eq(counters.overflowed),
            counters.debug.eq(debug.event),
            fences.request.eq(Cat(commands.fence, directory.fence)),
            Cat(commands.fenced, directory.fenced).eq(fences.done),
            self.directory.eq(directory.directory),
            self.interrupts.eq(interrupts.interrupts),
        ]
        join(m, flipped(self.registers), registers.bus)
        join(m, flipped(self.events), counters.events)
        join(m, commands.invalidations, flipped(self.invalidations))
        join(m, commands.invalidate, flipped(self.invalidate))
        join(m, flipped(self.invalidated), commands.invalidated)
        join(m, debug.walk, flipped(self.debug_walk))
        join(m, debug.claim, flipped(self.debug_claim))
        join(m, debug.fault, faults.faults[2])
        join(m, fences.channels[3], debug.fence)
        for channel in range(3):
            join(m, fences.channels[channel], flipped(self.fences[channel]))
        for channel in range(2):
            join(m, flipped(self.faults[channel]), faults.faults[channel])
        join(m, commands.axi, queues.managers[0])
        join(m, faults.axi, queues.managers[1])
        join(m, queues.memory, flipped(self.axi))
        return m
