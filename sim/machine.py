# SPDX-License-Identifier: BSD-2-Clause
"""The whole simulated machine."""

from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from hw.bus.width import WidthConverter
from sim.config import MachineConfig
from sim.host.dram import Dram
from sim.host.link import HostLink
from sim.host.mailbox import Mailbox
from sim.host.storage import Storage
from sim.host.wire_player import WirePlayer
from sim.host.wire_recorder import WireRecorder


class Machine(wiring.Component):
    """A NIC in a host, from the wire to memory and to the mailbox by which software reaches it.

    ::

        WirePlayer ──► wire_rx ┌─────┐ axi ► WidthConverter ► HostLink ► Dram ► storage "memory"
                               │ Nic │ registers ◄─────────── HostLink ◄─ Mailbox
        WireRecorder ◄ wire_tx └─────┘ interrupt ───────────► HostLink ─► Mailbox

    No ports: software reads and writes storages (:class:`sim.host.storage.Storage`). One clock, domain sync.

    Parameters
    ----------
    config : all parameters
    device : the NIC, or what has its ports and sits in its place
    """

    def __init__(self, config: MachineConfig, device: wiring.Component):
        self.config = config
        self.device = device
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        config, device = self.config, self.device
        clock_khz, width, registers = config.nic.clock_khz, config.host_width, config.nic.mmio_addr_width
        m = Module()
        m.submodules.device = device
        m.submodules.player = player = WirePlayer(config.nic.data_width, config.nic.serial_width)
        m.submodules.recorder = recorder = WireRecorder(
            config.nic.data_width, config.mac_bytes_per_cycle, config.nic.serial_width
        )
        m.submodules.converter = converter = WidthConverter(config.nic.data_width, width)
        m.submodules.link = link = HostLink(config.link, width, clock_khz, register_addr_width=registers)
        m.submodules.dram = dram = Dram(config.dram, width, config.memory_size, clock_khz)
        m.submodules.memory = memory = Storage("memory", config.memory_size, width)
        m.submodules.mailbox = mailbox = Mailbox(registers)

        cycle = Signal(64)
        m.d.sync += cycle.eq(cycle + 1)
        for part in (player, recorder, mailbox):
            m.d.comb += part.cycle.eq(cycle)
        m.d.comb += device.carrier.eq(mailbox.carrier)

        join(m, player.wire, device.wire_rx)
        join(m, device.wire_tx, recorder.wire)
        join(m, device.axi, converter.narrow)
        join(m, converter.wide, link.device)
        join(m, link.host, dram.data)
        join(m, dram.storage, memory.port)
        join(m, mailbox.registers, link.host_registers)
        join(m, link.device_registers, device.registers)
        join(m, device.interrupt, link.device_interrupt)
        join(m, link.host_interrupt, mailbox.interrupt)
        return m


def join(m: Module, source: Any, sink: Any) -> None:
    """:func:`amaranth.lib.wiring.connect`, which looks at widths alone, for interfaces whose members have the same
    shapes; ``TypeError`` otherwise."""
    members = [
        {path: member.shape for path, member, _ in interface.signature.flatten(interface)}
        for interface in (source, sink)
    ]
    for path, shape in members[0].items():
        if members[1].get(path) != shape:
            name = ".".join(map(str, path))
            raise TypeError(f"Member {name} is {shape!r} on one side and {members[1].get(path)!r} on the other")
    connect(m, source, sink)
