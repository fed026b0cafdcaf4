# SPDX-License-Identifier: BSD-2-Clause
"""Writes to host memory: several clients' transfers over one AXI write channel."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, connect, flipped
from amaranth.utils import exact_log2

from hw.abi.rings import AddressType
from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.fifo import StreamFifo
from hw.bus.room import Room
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.align import WriteAligner
from hw.nic.dma.merge import CommandMerge
from hw.nic.dma.sideband import SidebandTable
from hw.nic.dma.split import BurstSplitter
from hw.nic.interfaces import QueueWrite, WritePort

_AHEAD = 16  #: bursts whose address may be ahead of their data


class DmaWriter(wiring.Component):
    """Write the transfers of several clients to memory.

    Clients are served round robin, one command at a time: AW and W keep the order in which commands were taken. All
    bursts have ID 0, so their responses come in that order too, and ``done`` follows the last one by two cycles.

    **Timing.** A command's first address is offered seven cycles after the command is taken, its first data beat no
    earlier than ten; both run up to 16 bursts ahead of what stalls behind them. One W beat a cycle without a bubble
    within and between commands, of one client or of several, as long as their data is there: an unaligned command takes
    exactly the beats that its addresses touch.

    **Backpressure.** At most ``outstanding_writes`` bursts are without response. A client that withholds the data of an
    accepted command, or leaves ``done`` untaken, stalls all clients; none of the NIC's does either.

    **Errors.** A burst answered with anything but OKAY sets ``error`` in its command's ``done``; the rest of the
    command is written all the same.

    Parameters
    ----------
    config : NicConfig
    clients : number of clients
    id_width : bits of AXI IDs

    Members
    -------
    clients[i] : WritePort, flipped
    axi_aw, axi_w, axi_b : the write half of AXI4Signature
    queue_write, device_id : what the AXI sideband is made of, see SidebandTable
    """

    def __init__(self, config: NicConfig, clients: int, *, id_width: int = 8):
        if not isinstance(clients, int) or not 1 <= clients <= 16:
            raise ValueError(f"Clients must be an integer in 1..16, not {clients!r}")
        self._config = config
        self._count = clients
        axi = AXI4Signature(config.data_width, id_width=id_width).members
        super().__init__(
            {
                "clients": In(WritePort(config)).array(clients),
                "axi_aw": axi["aw"],
                "axi_w": axi["w"],
                "axi_b": axi["b"],
                "queue_write": In(QueueWrite(config)),
                "device_id": In(24),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        kind = {"address_type": AddressType} if config.ats else {}
        tag = data.StructLayout({"queue": range(config.queues), "client": range(max(2, self._count)), **kind})
        m.submodules.splitter = splitter = BurstSplitter(
            beat_bytes=config.beat_bytes, max_burst_bytes=config.max_burst_bytes, tag=tag
        )
        m.submodules.aligner = aligner = WriteAligner(config, self._count, min(_AHEAD, config.outstanding_writes))
        owner = data.StructLayout({"client": tag["client"].shape, "last": 1})
        m.submodules.owners = owners = StreamFifo(owner, config.outstanding_writes)
        for i, port in enumerate(self.clients):
            connect(m, flipped(port.data), aligner.clients[i])
        connect(m, aligner.beats, flipped(self.axi_w))
        self._accept(m, splitter.transfers, aligner.sources)
        self._issue(m, splitter.bursts, aligner.bursts, owners)
        self._respond(m, owners.output)
        return m

    def _accept(self, m, transfers, sources) -> None:
        """Take commands in turn; tell in which order their data is due."""
        m.submodules.merge = merge = CommandMerge(self._config, self._count)
        command, client = merge.output.p.command, merge.output.p.client
        for i, port in enumerate(self.clients):
            connect(m, flipped(port.command), merge.clients[i])
        m.d.comb += [
            merge.output.ready.eq(transfers.ready & sources.ready),
            transfers.valid.eq(merge.output.valid & sources.ready),
            transfers.p.address.eq(command.address),
            transfers.p.length.eq(command.length),
            transfers.p.tag.queue.eq(command.queue),
            transfers.p.tag.client.eq(client),
            sources.valid.eq(merge.output.valid & transfers.ready),
            sources.p.client.eq(client),
            sources.p.shift.eq(command.address),
            sources.p.length.eq(command.length),
        ]
        if self._config.ats:
            m.d.comb += transfers.p.tag.address_type.eq(command.address_type)

    def _issue(self, m, bursts, shapes, owners) -> None:
        """Send each burst three ways: its address out, its shape to the data path, its owner to the responses."""
        config = self._config
        m.submodules.sideband = sideband = SidebandTable(config)
        m.submodules.outstanding = outstanding = Room(config.outstanding_writes)
        m.submodules.addresses = addresses = SkidBuffer(self.axi_aw.p.shape())
        connect(m, sideband.write, flipped(self.queue_write))
        connect(m, addresses.output, flipped(self.axi_aw))
        burst, address, owner = bursts.p, addresses.input, owners.input
        issued = Signal()
        m.d.comb += [
            bursts.ready.eq(address.ready & shapes.ready & owners.input.ready & outstanding.room),
            issued.eq(bursts.valid & bursts.ready),
            outstanding.take.eq(issued),
            outstanding.give.eq(self.axi_b.valid & self.axi_b.ready),
            address.valid.eq(issued),
            address.p.addr.eq(burst.address),
            address.p.len.eq(burst.beats),
            address.p.size.eq(exact_log2(config.beat_bytes)),
            address.p.user.eq(sideband.sideband),
            sideband.device_id.eq(self.device_id),
            sideband.queue.eq(burst.tag.queue),
            shapes.valid.eq(issued),
            owner.valid.eq(issued),
            owner.p.client.eq(burst.tag.client),
            owner.p.last.eq(burst.last),
        ]
        m.d.comb += [shapes.p[name].eq(burst[name]) for name, _ in shapes.p.shape()]
        if config.ats:
            m.d.comb += sideband.address_type.eq(burst.tag.address_type)

    def _respond(self, m, owner) -> None:
        """Gather the responses of each command's bursts."""
        m.submodules.responses = responses = SkidBuffer(self.axi_b.p.shape())
        connect(m, flipped(self.axi_b), responses.input)
        response = responses.output
        done, client = Signal(), Signal.like(owner.p.client)
        free, taken = Signal(), Signal()
        failed, failed_before, error = Signal(), Signal(), Signal()
        m.d.comb += [
            free.eq(~done | Array(port.done.ready for port in self.clients)[client]),
            taken.eq(response.valid & owner.valid & free),
            response.ready.eq(owner.valid & free),
            owner.ready.eq(taken),
            failed.eq(failed_before | (response.p.resp != Response.OKAY)),
        ]
        for i, port in enumerate(self.clients):
            m.d.comb += [port.done.valid.eq(done & (client == i)), port.done.p.error.eq(error)]
        with m.If(free):
            m.d.sync += [done.eq(taken & owner.p.last), client.eq(owner.p.client), error.eq(failed)]
        with m.If(taken):
            m.d.sync += failed_before.eq(failed & ~owner.p.last)
