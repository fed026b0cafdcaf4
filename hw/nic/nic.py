# SPDX-License-Identifier: BSD-2-Clause
"""The NIC: all blocks, joined.

::

              wire_rx ──► RxPath ─────────────┐                        ┌──────────── TxPath ──► wire_tx
                          │    │ buffer data  │ descriptors            │ descriptors │    │
                          │    ▼              ▼                        ▼             ▼    │
              completions │  DmaWriter    DescriptorFetch (fill)   DescriptorFetch  buffer │ completions
                          ▼    ▲  ▲           │                        │         data│    ▼
              CompletionWriter ┘  │           └────────► DmaReader ◄───┴─────────────┘  CompletionWriter
                          │       └───────────────────────────────────────────────────────┘    │
                          │ published                                                published │
                          └─────────────────────► Interrupts ◄─────────────────────────────────┘
                                                      │ vectors
     registers ◄─► RegisterBlock ─► write broadcast, Lifecycle (rx, tx), Stats, FunctionReset

Where recycling is built in, :class:`hw.nic.recycle.recycler.Recycler` stands between both paths, the fill rings' fetch
and the registers.

**Ordering.** The NIC writes a completion only after every byte of its buffer has been acknowledged by AXI write
responses, counts a completion as published only after the response to its own write, and fires an interrupt only for
published completions. Who gives the response is a property of what the NIC is attached to. Where memory does
(``ordered_by = response``: on chip, and the exported default), a response means the bytes are visible, and a completion
can report that one was refused. Where the entry of a host link does (``ordered_by = posted``), it means that the write
has its place in the posted channel, in which the completion and the interrupt come later. Either way a completion is
never visible before its packet, nor an interrupt before its completion.

**Function reset.** CONTROL.reset keeps frames out (RX off, no new TX frame) and stops every queue; when all DMA has
been answered and all interfaces are between transfers, every block returns to its state after power-on. Counters start
at 0: frames that arrived meanwhile, counted as ``drop_link_down`` until then, are forgotten with them, and a frame of
which the wire has delivered only a part at that moment is ignored whole.
"""

from types import SimpleNamespace

from amaranth import Cat, Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, flipped

from hw.abi.iommu import InvalidationCompletion, InvalidationRequest
from hw.abi.registers import WORD_BYTES
from hw.abi.steering import RSS_KEY_BYTES
from hw.bus.axi4 import AXI4Signature
from hw.bus.axi_lite import AXILiteSignature
from hw.bus.join import join
from hw.bus.packet import packet_stream
from hw.config import NicConfig
from hw.nic.capabilities import capabilities, pool_capabilities
from hw.nic.dma.read import DmaReader
from hw.nic.dma.write import DmaWriter
from hw.nic.interfaces import TracePoint
from hw.nic.interrupts import VECTOR_BITS, Interrupts
from hw.nic.lifecycle import RINGS, Lifecycle
from hw.nic.probes import NIC_STREAMS, Probes, bits, descriptor_handshake, handshakes, show
from hw.nic.recycle.carried import CarriedTranslations
from hw.nic.recycle.joins import join_carried, join_recycler
from hw.nic.recycle.recycler import Recycler
from hw.nic.register_block import RegisterBlock
from hw.nic.reset import FunctionReset
from hw.nic.rings.completion_writer import CompletionWriter
from hw.nic.rings.descriptor_fetch import DescriptorFetch
from hw.nic.rx.path import RxPath
from hw.nic.stats.counters import Stats
from hw.nic.tx.path import TxPath

AXI_ID_WIDTH = 8
READ_CLIENT_BITS = 2  #: low bits of a read's ID that are the number of its client
RX_TRACE_POINTS = ("accepted", "refused", "taken", "dropped", "completed")
TX_TRACE_POINTS = ("gathered", "sent")


class Trace(wiring.Signature):
    """Simulation-only trace points: ``rx_*`` of :class:`hw.nic.rx.path.RxPath`, ``tx_*`` of
    :class:`hw.nic.tx.path.TxPath`."""

    def __init__(self, config: NicConfig):
        names = [f"rx_{name}" for name in RX_TRACE_POINTS] + [f"tx_{name}" for name in TX_TRACE_POINTS]
        super().__init__({name: Out(TracePoint(config)) for name in names})


class Nic(wiring.Component):
    """A NIC with ``config.queues`` queue pairs; see the module for how its parts relate.

    Errors are reported as :class:`hw.abi.rings.QueueError` and :class:`hw.abi.rings.CompletionError`, refused register
    accesses by their response; every frame is counted where it ends.

    Ports
    -----
    axi : Out
        DMA. Writes have ID 0. A read's ID has the number of its client in its low two bits: 0 RX descriptors, 1 TX
        descriptors, 2 TX data, 3 translation requests and prefetches. Above them it is 0, and for TX data one of
        0..``config.read_ids`` - 1, burst by burst in turn. Data of different IDs may come in any order and interleave.
        No ID is above 127.
    registers : In
        :file:`hw/abi/nic.rdl`.
    wire_rx : In
        Frames from the MAC; ``ready`` is always high.
    wire_tx : Out
        Frames to the MAC; ``valid`` stays high inside a frame.
    interrupt : Out, stream
        Vectors; each is held until the host takes it.
    carrier : In
        The MAC sees a link.
    power_on : In
        All blocks are reset two cycles later, and as long: instead of a reset of the clock domain, whose wire to every
        flip-flop would not come from a register. May stay low where the domain has one.
    ats_invalidate, ats_invalidated : In, Out, streams
        Only where ``config.ats``: messages from and to the IOMMU. What comes towards the end of a function reset is
        taken after it.
    trace : Out
        Only where ``config.serial_width`` is not 0.
    probes : Out
        Only where ``config.probes``.
    """

    def __init__(self, config: NicConfig):
        self._config = config
        packets = packet_stream(config.data_width, config.serial_width)
        members = {
            "axi": Out(AXI4Signature(config.data_width, id_width=AXI_ID_WIDTH)),
            "registers": In(AXILiteSignature(config.mmio_addr_width)),
            "wire_rx": In(packets),
            "wire_tx": Out(packets),
            "interrupt": Out(stream.Signature(VECTOR_BITS)),
            "carrier": In(1),
            "power_on": In(1),
        }
        if config.ats:
            members["ats_invalidate"] = In(stream.Signature(InvalidationRequest))
            members["ats_invalidated"] = Out(stream.Signature(InvalidationCompletion))
        if config.serial_width:
            members["trace"] = Out(Trace(config))
        if config.probes:
            members["probes"] = Out(Probes(NIC_STREAMS))
        super().__init__(members)

    @property
    def config(self) -> NicConfig:
        """The parameters."""
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.function_reset = reset = FunctionReset()

        def add(name, block):
            m.submodules[name] = ResetInserter(reset.reset)(block)
            return block

        registers = add("register_block", RegisterBlock(config))
        rx = add("rx", RxPath(config))
        tx = add("tx", TxPath(config))
        ids = [1, 1, config.read_ids, *([1] if config.ats else [])]
        reader = add("dma_reader", DmaReader(config, ids, id_width=AXI_ID_WIDTH))
        writer = add("dma_writer", DmaWriter(config, 3, id_width=AXI_ID_WIDTH))
        interrupts = add("interrupts", Interrupts(config))
        stats = add("stats", Stats(config))

        # Read clients: RX descriptors, TX descriptors, TX data. Write clients: RX data, RX completions, TX completions.
        listeners = [rx.queue_write, reader.queue_write, writer.queue_write, interrupts.write]
        carried = add("carried", CarriedTranslations(config)) if config.ats else None
        if carried is None:
            join(m, rx.write, writer.clients[0])
            join(m, tx.read, reader.clients[2])
        else:
            listeners.append(carried.queue_write)
        recycler = add("recycler", Recycler(config)) if config.pools else None
        lifecycles = []
        rings = {}
        for number, (direction, path) in enumerate((("rx", rx), ("tx", tx))):
            fetch = add(f"{direction}_fetch", self._fetch(direction))
            completions = add(f"{direction}_completions", self._completions(direction))
            rings[direction] = (path, fetch, completions)
            faults = (path.fault, fetch.faults, completions.faults)
            blocks = [path, fetch, completions]
            if recycler is not None and direction == "rx":
                join_recycler(m, recycler, registers, rx, tx, fetch, interrupts)
                m.d.comb += recycler.hold.eq(reset.hold)
                blocks.append(recycler)
                listeners += [recycler.queue_write, tx.queue_write]
            if carried is not None:
                blocks.append(SimpleNamespace(control=getattr(carried, f"{direction}_control")))
            lifecycle = add(
                f"{direction}_lifecycle", Lifecycle(config, direction, blocks=len(blocks), faults=len(faults))
            )
            lifecycles.append(lifecycle)
            for block, control in zip(blocks, lifecycle.control, strict=True):
                join(m, control, block.control)
            for source, sink in zip(faults, lifecycle.faults, strict=True):
                join(m, source, sink)
            join(m, path.descriptors, fetch.descriptors)
            join(m, path.completions, completions.completions)
            join(m, fetch.read, reader.clients[number])
            join(m, completions.write, writer.clients[1 + number])
            join(m, completions.published, getattr(interrupts, f"{direction}_published"))
            listeners += [lifecycle.write, fetch.queue_write, completions.queue_write]
            m.d.comb += [
                completions.timeout.eq(registers.timeouts.completion),
                lifecycle.stop.eq(reset.resetting),
                getattr(registers, f"{direction}_status").eq(lifecycle.status),
                getattr(interrupts, f"{direction}_started").eq(lifecycle.started),
                getattr(interrupts, f"{direction}_failed").eq(lifecycle.failed),
            ]
        for listener in listeners:
            join(m, registers.write, listener)

        for event, counted in (
            (rx.frame_event, stats.rx),
            (tx.frame_event, stats.tx),
            (rx.delivery_event, stats.queue_rx_delivered),
            (rx.drop_event, stats.queue_rx_dropped),
            (tx.queue_event, stats.queue_tx),
            (interrupts.sent, stats.interrupt),
        ):
            join(m, event, counted)

        quiet = registers.idle & ~tx.sending & ~self.wire_tx.valid & ~self.interrupt.valid
        if carried is not None:
            join_carried(m, carried, recycler, registers, rx, tx, reader, writer)
            join(m, flipped(self.ats_invalidate), carried.invalidate)
            join(m, carried.invalidated, flipped(self.ats_invalidated))
            quiet &= carried.idle
            m.d.comb += [carried.hold.eq(reset.closing), carried.device_id.eq(registers.device.device_id)]
        self._set_registers(m, registers, rx, tx, reader, writer, stats, reset)
        self._set_steering(m, registers, rx)
        self._join_ports(m, registers, rx, tx, reader, writer, interrupts)
        if config.probes:
            self._show(m, rings)
        m.d.comb += [
            reset.power_on.eq(self.power_on),
            reset.request.eq(registers.control.reset),
            reset.drained.eq(Cat(lifecycle.idle for lifecycle in lifecycles).all()),
            reset.quiet.eq(quiet),
            interrupts.hold.eq(reset.hold),
        ]
        return m

    def _fetch(self, direction):
        ring = RINGS[direction][0]
        return DescriptorFetch(
            self._config,
            recycling=direction == "rx" and self._config.pools != 0,
            base=f"{ring}_base",
            size=f"{ring}_size",
            doorbell=f"{direction}_doorbell",
            producer={"rx": "fill_producer", "tx": "producer"}[direction],
        )

    def _completions(self, direction):
        ring = RINGS[direction][1]
        return CompletionWriter(
            self._config,
            base=f"{ring}_base",
            size=f"{ring}_size",
            doorbell=f"{direction}_doorbell",
            consumer="completion_consumer",
        )

    def _set_registers(self, m, registers, rx, tx, reader, writer, stats, reset):
        """What registers say to the blocks, and what the blocks say in registers."""
        m.d.comb += [
            rx.rx_enable.eq(registers.control.rx_enable & ~reset.resetting),
            tx.tx_enable.eq(registers.control.tx_enable & ~reset.resetting),
            rx.carrier.eq(self.carrier),
            rx.min_length.eq(registers.frame_limits.min_length),
            rx.max_length.eq(registers.frame_limits.max_length),
            rx.starvation.eq(registers.timeouts.starvation),
            rx.default_queue.eq(registers.steering.default_queue),
            reader.device_id.eq(registers.device.device_id),
            writer.device_id.eq(registers.device.device_id),
            stats.snapshot.eq(registers.control.snapshot),
            stats.read_address.eq(registers.counter_address),
            registers.counter_value.eq(stats.read_value),
            registers.counters_busy.eq(stats.busy),
            registers.resetting.eq(reset.resetting),
            registers.hold.eq(reset.hold),
            registers.capabilities.eq(capabilities(self._config)),
            registers.pool_capabilities.eq(pool_capabilities(self._config)),
            registers.status.carrier.eq(self.carrier),
            registers.status.link_up.eq(self.carrier & registers.control.rx_enable),
            registers.status.resetting.eq(reset.resetting),
            registers.status.snapshot_busy.eq(stats.busy),
        ]

    def _set_steering(self, m, registers, rx):
        """The registers of what the classifier makes possible, where it is built in."""
        if self._config.classify:
            m.d.comb += rx.vlan_strip.eq(registers.rx_offload.vlan_strip)
        if self._config.rss:
            keys = [getattr(registers, f"rss_key{number}").key for number in range(RSS_KEY_BYTES // WORD_BYTES)]
            m.d.comb += [rx.rss.types.eq(registers.rss_types), rx.rss.key.eq(Cat(keys))]
            join(m, registers.rss_table, rx.rss.table)
        if self._config.steering_rules:
            window, flow, command = rx.rules, registers.rule_flow, registers.rule_command
            m.d.comb += [
                window.source.eq(Cat(registers.rule_source0, registers.rule_source1)),
                window.destination.eq(Cat(registers.rule_destination0, registers.rule_destination1)),
                window.source_port.eq(flow.source_port),
                window.destination_port.eq(flow.destination_port),
                window.network.eq(flow.network),
                window.transport.eq(flow.transport),
                window.queue.eq(flow.queue),
                window.index.eq(command.index),
                window.insert.eq(command.insert),
                window.remove.eq(command.remove),
                registers.rule_status.busy.eq(window.busy),
                registers.rule_status.error.eq(window.error),
            ]

    def _join_ports(self, m, registers, rx, tx, reader, writer, interrupts):
        join(m, flipped(self.registers), registers.bus)
        join(m, flipped(self.wire_rx), rx.wire)
        for inner, outer in (
            (tx.wire, self.wire_tx),
            (writer.axi_aw, self.axi.aw),
            (writer.axi_w, self.axi.w),
            (writer.axi_b, self.axi.b),
            (reader.axi_ar, self.axi.ar),
            (reader.axi_r, self.axi.r),
            (interrupts.interrupt, self.interrupt),
        ):
            join(m, inner, flipped(outer))
        if self._config.serial_width:
            for direction, path, names in (("rx", rx, RX_TRACE_POINTS), ("tx", tx, TX_TRACE_POINTS)):
                for name in names:
                    join(m, getattr(path, name), flipped(getattr(self.trace, f"{direction}_{name}")))

    def _show(self, m, rings):
        """Show the streams inside both paths, and between each path, its descriptor fetch and its completion writer."""
        shown = {}
        for direction, (path, fetch, completions) in rings.items():
            streams = handshakes(
                fetches=fetch.read.command,
                fetched=fetch.read.data,
                completions=path.completions.entry,
                lines=completions.write.command,
                line_data=completions.write.data,
                lines_done=completions.write.done,
            )
            streams["descriptors"] = descriptor_handshake(path.descriptors)
            shown |= bits(path.probes) | {f"{direction}_{name}": handshake for name, handshake in streams.items()}
        write, read = rings["rx"][0].write, rings["tx"][0].read
        shown |= handshakes(rx_writes=write.command, rx_data=write.data, rx_written=write.done)
        shown |= handshakes(tx_reads=read.command, tx_data=read.data)
        show(m, self.probes, shown)
