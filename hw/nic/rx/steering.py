# SPDX-License-Identifier: BSD-2-Clause
"""Which queue a frame belongs to."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.registers import register_map
from hw.config import NicConfig
from hw.nic.interfaces import QueueWrite
from hw.nic.rx.layouts import ParsedFrame, SteeredFrame


class RxSteering(wiring.Component):
    """Choose each frame's queue by its destination address.

    The lowest queue whose MAC_ADDRESS register is enabled and equals the destination gets the frame; otherwise
    ``default_queue``. If that queue does not exist, the frame leaves with ``routed`` off, as queue 0's to drop. A
    register write acts on frames that enter in later cycles.

    Order is kept; a frame takes one cycle, and one enters every cycle unless ``output`` stalls.

    Members
    -------
    write : register writes to the queues' pages
    default_queue : register STEERING
    input : stream of :class:`hw.nic.rx.layouts.ParsedFrame`
    output : stream of :class:`hw.nic.rx.layouts.SteeredFrame`
    """

    def __init__(self, config: NicConfig):
        self._config = config
        super().__init__(
            {
                "write": In(QueueWrite(config)),
                "default_queue": In(8),
                "input": In(stream.Signature(ParsedFrame(config))),
                "output": Out(stream.Signature(SteeredFrame(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        register = register_map(self._config.queues).queue["mac_address"]
        address_field, enable_field = register.fields["address"], register.fields["enable"]
        target = Signal.like(self.output.payload)
        m.d.comb += [
            target.length.eq(self.input.payload.length),
            target.info.eq(self.input.payload.info),
            target.serial.eq(self.input.payload.serial),
            target.routed.eq(self.default_queue < self._config.queues),
        ]
        with m.If(target.routed):
            m.d.comb += target.queue.eq(self.default_queue)
        # The last assignment wins, so the lowest queue comes last.
        for queue in reversed(range(self._config.queues)):
            address, enable = Signal(address_field.width, name=f"mac_{queue}"), Signal(name=f"mac_{queue}_enable")
            chosen = self.write.strobe & (self.write.queue == queue) & (self.write.offset == register.offset)
            with m.If(chosen):
                m.d.sync += [
                    address.eq(self.write.data >> address_field.lsb),
                    enable.eq(self.write.data[enable_field.lsb]),
                ]
            with m.If(enable & (address == self.input.payload.destination)):
                m.d.comb += [target.queue.eq(queue), target.routed.eq(1)]

        m.d.comb += self.input.ready.eq(~self.output.valid | self.output.ready)
        with m.If(self.input.ready):
            m.d.sync += [self.output.valid.eq(self.input.valid), self.output.payload.eq(target)]
        return m
