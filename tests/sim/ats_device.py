# SPDX-License-Identifier: BSD-2-Clause
"""A device that is asked to forget translations, and says at once that it has."""

from dataclasses import dataclass
from typing import Any

from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.bus.join import join
from hw.config import NicConfig
from sim.config import MachineConfig
from sim.machine import Machine
from tests.sim.loop_device import LoopDevice


class AtsDevice(wiring.Component):
    """A :class:`LoopDevice` that acknowledges every invalidation in the cycle in which it comes."""

    def __init__(self, config: NicConfig):
        self.loop = LoopDevice(config)
        super().__init__(
            {
                **dict(self.loop.signature.members.items()),
                "ats_invalidate": In(stream.Signature(InvalidationRequest)),
                "ats_invalidated": Out(stream.Signature(InvalidationCompletion)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.loop = loop = self.loop
        for channel, member in loop.axi.signature.members.items():
            inner, outer = getattr(loop.axi, channel), flipped(getattr(self.axi, channel))
            join(m, *((inner, outer) if member.flow is Out else (flipped(getattr(self.axi, channel)), inner)))
        join(m, flipped(self.registers), loop.registers)
        join(m, flipped(self.wire_rx), loop.wire_rx)
        join(m, loop.wire_tx, flipped(self.wire_tx))
        join(m, loop.interrupt, flipped(self.interrupt))
        request, completion = self.ats_invalidate, self.ats_invalidated
        m.d.comb += [
            loop.carrier.eq(self.carrier),
            completion.valid.eq(request.valid),
            request.ready.eq(completion.ready),
            completion.payload.tag.eq(request.payload.tag),
            completion.payload.device_id.eq(request.payload.device_id),
        ]
        return m


@dataclass(frozen=True)
class AtsMachineConfig(MachineConfig):
    """A machine with an IOMMU and an :class:`AtsDevice`, or with ``deaf`` a :class:`LoopDevice`."""

    deaf: bool = False

    def build(self) -> Machine:
        return Machine(self, LoopDevice(self.nic) if self.deaf else AtsDevice(self.nic), self.build_iommu())
