# SPDX-License-Identifier: BSD-2-Clause
"""The whole simulated machine."""

from typing import Any
from zlib import crc32

from amaranth import Module, Signal
from amaranth.hdl import Shape, ShapeCastable
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from hw.bus.width import WidthConverter
from sim.config import MachineConfig
from sim.host.dram import Dram
from sim.host.link import HostLink
from sim.host.mailbox import Mailbox
from sim.host.stall import BusStall, FrameStall, StreamStall
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

        join(m, converter.wide, link.device)
        join(m, dram.storage, memory.port)
        self._join_frames(m, "wire_rx", player.wire, device.wire_rx)
        self._join_frames(m, "wire_tx", device.wire_tx, recorder.wire)
        self._join_bus(m, "device_axi", device.axi, converter.narrow)
        self._join_bus(m, "host_axi", link.host, dram.data)
        self._join_bus(m, "host_registers", mailbox.registers, link.host_registers)
        self._join_bus(m, "device_registers", link.device_registers, device.registers)
        self._join_vectors(m, "device_interrupt", device.interrupt, link.device_interrupt)
        self._join_vectors(m, "host_interrupt", link.host_interrupt, mailbox.interrupt)
        return m

    def _seed(self, name: str) -> int:
        """Of the stalls at one place: unlike those at any other."""
        return self.config.stall_seed << 32 | crc32(name.encode())

    def _join_bus(self, m: Module, name: str, manager: Any, subordinate: Any) -> None:
        if self.config.stall_rate:
            stall = BusStall(manager.signature, self.config.stall_rate, self._seed(name))
            m.submodules[f"{name}_stall"] = stall
            join(m, stall.subordinate, subordinate)
            subordinate = stall.manager
        join(m, manager, subordinate)

    def _join_frames(self, m: Module, name: str, source: Any, sink: Any) -> None:
        if self.config.stall_rate:
            nic = self.config.nic
            stall = FrameStall(nic.data_width, nic.serial_width, self.config.stall_rate, self._seed(name))
            m.submodules[f"{name}_stall"] = stall
            join(m, stall.output, sink)
            sink = stall.input
        join(m, source, sink)

    def _join_vectors(self, m: Module, name: str, source: Any, sink: Any) -> None:
        if self.config.stall_rate:
            stall = StreamStall(source.payload.shape(), self.config.stall_rate, self._seed(name))
            m.submodules[f"{name}_stall"] = stall
            join(m, stall.output, sink)
            sink = stall.input
        join(m, source, sink)


def join(m: Module, source: Any, sink: Any) -> None:
    """:func:`amaranth.lib.wiring.connect`, which looks at widths alone, for interfaces whose members have the same
    shapes; ``TypeError`` otherwise."""
    shapes = [
        {path: _plain(member.shape) for path, member, _ in interface.signature.flatten(interface)}
        for interface in (source, sink)
    ]
    for path, shape in shapes[0].items():
        if shapes[1].get(path) != shape:
            name = ".".join(map(str, path))
            raise TypeError(f"Member {name} is {shape!r} on one side and {shapes[1].get(path)!r} on the other")
    connect(m, source, sink)


def _plain(shape: Any) -> Any:
    """One form for all ways to write a shape without fields."""
    return shape if isinstance(shape, ShapeCastable) else Shape.cast(shape)
