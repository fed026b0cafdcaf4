# SPDX-License-Identifier: BSD-2-Clause
"""The whole simulated machine."""

from itertools import count
from typing import Any

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect

from driver_model.platform import IOMMU_VECTOR
from hw.bus.axi4_mux import AXI4Mux
from hw.bus.axi_lite_decoder import AXILiteDecoder, Region
from hw.bus.join import join
from hw.bus.width import WidthConverter
from hw.nic.nic import READ_CLIENT_BITS
from hw.nic.probes import bits, handshakes, show
from sim.config import INTRUDER_ID, INTRUDER_REGISTERS, IOMMU_REGISTERS, MachineConfig
from sim.host.dram import Dram
from sim.host.invalidation_path import InvalidationPath
from sim.host.level_interrupts import LevelInterrupts
from sim.host.link import HostLink
from sim.host.mailbox import ADDR_WIDTH, Mailbox
from sim.host.register_path import RegisterPath
from sim.host.stall import BusStall, FrameStall, StreamStall
from sim.host.storage import Storage
from sim.host.stream_account import StreamAccount
from sim.host.trace import TraceRecorder
from sim.host.wire_player import WirePlayer
from sim.host.wire_recorder import WireRecorder
from sim.streams import AMOUNTS, READ_CLIENTS, stream_ends


class Machine(wiring.Component):
    """A NIC in a host, from the wire to memory and to the mailbox by which software reaches it.

    ::

        WirePlayer ──► wire_rx ┌─────┐ axi ► WidthConverter ► HostLink ► Dram ► storage "memory"
                               │ Nic │ registers ◄─────────── HostLink ◄─ Mailbox
        WireRecorder ◄ wire_tx └─────┘ interrupt ───────────► HostLink ─► Mailbox
                                  ├──── trace ──────────────► TraceRecorder (where frames have serials)
                                  └──── probes ─────────────► StreamAccount (where the NIC has them)

    With an IOMMU, between HostLink, Dram and Mailbox::

        HostLink ─────────────────► device    ┌───────┐ memory ─────► Dram.data
                                              │ Iommu │ walker ─────► WidthConverter ──► Dram.walker
        Mailbox ─► AXILiteDecoder ► registers └───────┘ interrupts ─► LevelInterrupts ─► Mailbox
                                  └► HostLink ─► Nic    HostLink ───────────────────┘

    A device that has ``ats_invalidate`` and ``ats_invalidated`` takes the IOMMU's invalidations and acknowledges them,
    over the link (:class:`sim.host.invalidation_path.InvalidationPath`).

    The decoder hands accesses below ``IOMMU_REGISTERS`` to the NIC, over the link, and the 4 KiB there to the IOMMU,
    over a :class:`sim.host.register_path.RegisterPath` of ``iommu_register_ns``.

    With an intruder as well, a second device without a link of its own, which software reaches from
    ``INTRUDER_REGISTERS`` on; nobody listens to its interrupts::

        HostLink ───────────► AXI4Mux ─► device    AXILiteDecoder ─► registers ┌──────────┐
        axi (the intruder's) ────┘                                             │ intruder │
                                                                               └──────────┘

    No ports: software reads and writes storages (:class:`sim.host.storage.Storage`). One clock, domain sync.

    Parameters
    ----------
    config : all parameters
    device : the NIC, or what has its ports and sits in its place
    iommu : the IOMMU, or what has its ports; None where ``config`` has none
    intruder : a device with ``axi`` of ``host_width`` that uses IDs from ``INTRUDER_ID`` on, where the first one has
        those below, ``registers`` and ``interrupt``; only with an IOMMU, and None where there is none
    """

    def __init__(
        self,
        config: MachineConfig,
        device: wiring.Component,
        iommu: wiring.Component | None = None,
        intruder: wiring.Component | None = None,
    ):
        self.config = config
        self.device = device
        self.iommu = iommu
        self.intruder = intruder
        if intruder is not None and iommu is None:
            raise ValueError(f"A machine without an IOMMU has no place for a second device, {intruder!r}")
        if (iommu is None) != (config.iommu is None):
            raise ValueError(f"A machine has an IOMMU where its configuration has one, not {iommu!r}")
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        config, device = self.config, self.device
        clock_khz, width, addr_width = config.nic.clock_khz, config.host_width, config.nic.mmio_addr_width
        m = Module()
        m.submodules.device = device
        m.submodules.player = player = WirePlayer(config.nic.data_width, config.nic.serial_width)
        m.submodules.recorder = recorder = WireRecorder(
            config.nic.data_width, config.mac_bytes_per_cycle, config.nic.serial_width
        )
        m.submodules.converter = converter = WidthConverter(config.nic.data_width, width)
        m.submodules.link = link = HostLink(config.link, width, clock_khz, register_addr_width=addr_width)
        m.submodules.dram = dram = Dram(config.dram, width, config.memory_size, clock_khz)
        m.submodules.memory = memory = Storage("memory", config.memory_size, width, exchange=True)
        m.submodules.mailbox = mailbox = Mailbox(addr_width if self.iommu is None else ADDR_WIDTH)

        cycle = Signal(64)
        m.d.sync += cycle.eq(cycle + 1)
        parts: list[Any] = [player, recorder, mailbox]
        if config.nic.serial_width:
            m.submodules.trace = trace = TraceRecorder(config.nic)
            parts.append(trace)
            join(m, device.trace, trace.points)
            m.d.sync += [
                trace.arrived.strobe.eq(device.wire_rx.valid & device.wire_rx.ready & device.wire_rx.payload.first),
                trace.arrived.serial.eq(device.wire_rx.payload.serial),
            ]
        m.d.comb += [device.carrier.eq(mailbox.carrier), mailbox.posted_errors.eq(link.posted_errors)]

        join(m, converter.wide, link.device)
        join(m, dram.storage, memory.port)
        stalls = Stalls(m, mailbox.stall if config.stalls else None)
        stalls.join_frames("wire_rx", player.wire, device.wire_rx)
        stalls.join_frames("wire_tx", device.wire_tx, recorder.wire)
        stalls.join_bus("device_axi", device.axi, converter.narrow)
        memory, registers, interrupt = dram.data, mailbox.registers, mailbox.interrupt
        if self.iommu is not None:
            memory, registers, interrupt = self._place_iommu(m, self.iommu, link, dram, mailbox, stalls, cycle)
        if config.nic.probes:
            m.submodules.account = account = StreamAccount(tuple(stream_ends(config)), AMOUNTS)
            parts.append(account)
            self._count(m, account, link, dram)
        for part in parts:
            m.d.comb += part.cycle.eq(cycle)
        stalls.join_bus("host_axi", link.host, memory)
        stalls.join_bus("host_registers", registers, link.host_registers)
        stalls.join_bus("device_registers", link.device_registers, device.registers)
        stalls.join_stream("device_interrupt", device.interrupt, link.device_interrupt)
        stalls.join_stream("host_interrupt", link.host_interrupt, interrupt)
        return m

    def _carry_invalidations(self, m: Module, iommu: Any, link: Any) -> None:
        """Between the IOMMU and a device that takes them; otherwise they go nowhere, and time out."""
        device = self.device
        if "ats_invalidate" not in device.signature.members:
            m.d.comb += iommu.invalidate.ready.eq(1)
            return
        m.submodules.invalidations = path = InvalidationPath()
        for source, sink in (
            (iommu.invalidate, path.invalidate),
            (path.host_message, link.host_message),
            (link.device_message, path.device_message),
            (path.device_invalidate, device.ats_invalidate),
            (device.ats_invalidated, path.device_invalidated),
            (path.device_answer, link.device_answer),
            (link.host_answer, path.host_answer),
            (path.invalidated, iommu.invalidated),
        ):
            join(m, source, sink)
        for strobe, r in ((path.handed, link.host.r), (path.taken, device.axi.r)):
            m.d.comb += strobe.eq(r.valid & r.ready & r.payload.last)

    def _count(self, m: Module, account: Any, link: Any, dram: Any) -> None:
        """Account for every stream from the wire to memory, as its source sees it."""
        device = self.device
        ends = {"axi": device.axi, "host": link.host}
        if self.iommu is not None:
            ends["memory"] = dram.data
        shown = bits(device.probes)
        shown |= handshakes(wire_rx=device.wire_rx, wire_tx=device.wire_tx, registers=device.registers.w)
        for end, axi in ends.items():
            shown |= handshakes(**{f"{end}_{channel}": getattr(axi, channel) for channel in axi.signature.members})
        requests = device.axi.ar
        for number, client in enumerate(READ_CLIENTS):
            shown[client] = (requests.valid & (requests.payload.id[:READ_CLIENT_BITS] == number), requests.ready)
        show(m, account.streams, shown)
        for name in AMOUNTS:
            m.d.comb += getattr(account.amounts, name).eq(getattr(link, name))

    def _place_iommu(
        self, m: Module, iommu: Any, link: Any, dram: Any, mailbox: Any, stalls: "Stalls", cycle: Signal
    ) -> tuple[Any, Any, Any]:
        """Put the IOMMU before memory, its registers and interrupt wires beside the device's; where the link's accesses
        to memory go then, where its register accesses come from, and where its interrupts go."""
        config = self.config
        regions = {
            "device": Region(0, config.nic.mmio_addr_width),
            "iommu": Region(IOMMU_REGISTERS, iommu.registers.signature.addr_width),
        }
        intruder: Any = self.intruder
        if intruder is not None:
            regions["intruder"] = Region(INTRUDER_REGISTERS, intruder.registers.signature.addr_width)
        m.submodules.iommu = iommu
        m.submodules.decoder = decoder = AXILiteDecoder(ADDR_WIDTH, regions)
        m.submodules.walker_converter = converter = WidthConverter(iommu.walker.signature.data_width, config.host_width)
        m.submodules.interrupts = interrupts = LevelInterrupts(len(iommu.interrupts), IOMMU_VECTOR)
        join(m, converter.wide, dram.walker)
        join(m, mailbox.registers, decoder.manager)
        join(m, interrupts.output, mailbox.interrupt)
        m.d.comb += interrupts.wires.eq(iommu.interrupts)
        self._carry_invalidations(m, iommu, link)
        stalls.join_bus("iommu_memory", iommu.memory, dram.data)
        stalls.join_bus("iommu_walker", iommu.walker, converter.narrow)
        registers: Any = decoder.iommu
        if config.iommu_register_cycles:
            m.submodules.register_path = path = RegisterPath(
                registers.signature.addr_width, config.iommu_register_cycles
            )
            m.d.comb += path.cycle.eq(cycle)
            join(m, registers, path.manager)
            registers = path.subordinate
        stalls.join_bus("iommu_registers", registers, iommu.registers)
        if intruder is None:
            return iommu.device, decoder.device, interrupts.messages
        m.submodules.intruder = intruder
        axi = iommu.device.signature
        m.submodules.mux = mux = AXI4Mux(
            axi.data_width, range(INTRUDER_ID), range(INTRUDER_ID, 1 << axi.id_width), id_width=axi.id_width
        )
        m.d.comb += intruder.interrupt.ready.eq(1)
        stalls.join_bus("mux_axi", mux.memory, iommu.device)
        stalls.join_bus("intruder_axi", intruder.axi, mux.managers[1])
        stalls.join_bus("intruder_registers", decoder.intruder, intruder.registers)
        return mux.managers[0], decoder.device, interrupts.messages


class Stalls:
    """Joins parts; where ``control`` is given, with random stalls between them that it sets."""

    def __init__(self, m: Module, control: Any = None):
        self._m = m
        self._control = control
        self._places = count()

    def join_bus(self, name: str, manager: Any, subordinate: Any) -> None:
        """Join a bus of streams, such as AXI4 or AXI4-Lite."""
        if self._control is not None:
            first, *_ = [next(self._places) for _ in manager.signature.members]
            stall = self._add(name, BusStall(manager.signature, first))
            join(self._m, stall.subordinate, subordinate)
            subordinate = stall.manager
        join(self._m, manager, subordinate)

    def join_frames(self, name: str, source: Any, sink: Any) -> None:
        """Join a packet stream, whose frames are never interrupted."""
        if self._control is not None:
            sink = self._before(sink, self._add(name, FrameStall(source.signature, next(self._places))))
        join(self._m, source, sink)

    def join_stream(self, name: str, source: Any, sink: Any) -> None:
        """Join any other stream."""
        if self._control is not None:
            sink = self._before(sink, self._add(name, StreamStall(source.payload.shape(), next(self._places))))
        join(self._m, source, sink)

    def _add(self, name: str, stall: Any) -> Any:
        self._m.submodules[f"{name}_stall"] = stall
        connect(self._m, self._control, stall.control)
        return stall

    def _before(self, sink: Any, stall: Any) -> Any:
        join(self._m, stall.output, sink)
        return stall.input
