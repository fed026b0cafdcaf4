# SPDX-License-Identifier: BSD-2-Clause
"""Writes to host memory: several clients' transfers over one AXI write channel."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from hw.bus.axi4 import AXI4Signature, Response
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.dma.lanes import below, merge, rotate_up
from hw.nic.dma.sideband import SidebandTable
from hw.nic.dma.split import BurstSplitter
from hw.nic.interfaces import QueueWrite, WritePort

_AHEAD = 16  #: bursts whose address may be ahead of their data


class DmaWriter(wiring.Component):
    """Write the transfers of several clients to memory.

    Clients are served round robin, one command at a time: AW and W keep the order in which commands were taken. All
    bursts have ID 0, so their responses come in that order too, and ``done`` follows the last one in the same cycle.

    **Timing.** A command's first address is offered two cycles after the command is taken, its first data beat no
    earlier than three; both run up to 16 bursts ahead of what stalls behind them. One W beat a cycle without a bubble
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
        lane_bits = exact_log2(config.beat_bytes)
        client = range(max(2, self._count))
        tag = data.StructLayout(
            {
                "queue": range(config.queues),
                "client": client,
                "shift": lane_bits,  # lane of the first byte
                "end": lane_bits,  # lane of the last byte
                "spill": 1,  # touches one beat of memory more than it has beats of data
            }
        )
        m.submodules.splitter = splitter = BurstSplitter(
            beat_bytes=config.beat_bytes, max_burst_bytes=config.max_burst_bytes, tag=tag
        )
        ahead = min(_AHEAD, config.outstanding_writes)
        m.submodules.sources = sources = SyncFIFO(width=len(Signal(client)), depth=ahead)
        self._accept(m, splitter.transfers, sources)
        self._issue(m, splitter.bursts, tag, sources, ahead)
        return m

    def _accept(self, m, transfers, sources) -> None:
        """Take commands in turn; remember in which order their data is due."""
        m.submodules.arbiter = arbiter = RoundRobin(self._count)
        commands = [port.command for port in self.clients]
        command = Signal.like(commands[0].p)
        lane_bits = len(transfers.p.tag.shift)
        offset_of_last = Signal(16)
        m.d.comb += [
            arbiter.requests.eq(sum(port.valid << i for i, port in enumerate(commands))),
            arbiter.taken.eq(transfers.ready & sources.w_rdy),
            command.eq(Array(port.p for port in commands)[arbiter.grant]),
            transfers.valid.eq(arbiter.valid & sources.w_rdy),
            sources.w_en.eq(arbiter.valid & transfers.ready),
            sources.w_data.eq(arbiter.grant),
            offset_of_last.eq(command.length - 1),
            transfers.p.address.eq(command.address),
            transfers.p.length.eq(command.length),
            transfers.p.tag.queue.eq(command.queue),
            transfers.p.tag.client.eq(arbiter.grant),
            transfers.p.tag.shift.eq(command.address[:lane_bits]),
            transfers.p.tag.end.eq(command.address[:lane_bits] + offset_of_last[:lane_bits]),
            transfers.p.tag.spill.eq((command.address[:lane_bits] + offset_of_last[:lane_bits])[lane_bits]),
        ]
        for i, port in enumerate(commands):
            m.d.comb += port.ready.eq(arbiter.valid & arbiter.taken & (arbiter.grant == i))

    def _issue(self, m, bursts, tag, sources, ahead: int) -> None:
        """Send each burst three ways: its address out, its shape to the data path, its owner to the responses."""
        shape = data.StructLayout({"beats": 8, "first": 1, "last": 1, "tag": tag})
        owner = data.StructLayout({"client": tag["client"].shape, "last": 1})
        m.submodules.shapes = shapes = SyncFIFO(width=shape.size, depth=ahead)
        m.submodules.owners = owners = SyncFIFO(width=owner.size, depth=self._config.outstanding_writes)
        m.submodules.sideband = sideband = SidebandTable(self._config)
        wiring.connect(m, sideband.write, wiring.flipped(self.queue_write))
        addresses = self.axi_aw
        issued = Signal()
        burst_shape, burst_owner = shape(shapes.w_data), owner(owners.w_data)
        m.d.comb += [
            bursts.ready.eq((~addresses.valid | addresses.ready) & shapes.w_rdy & owners.w_rdy),
            issued.eq(bursts.valid & bursts.ready),
            shapes.w_en.eq(issued),
            burst_shape.beats.eq(bursts.p.beats),
            burst_shape.first.eq(bursts.p.first),
            burst_shape.last.eq(bursts.p.last),
            burst_shape.tag.eq(bursts.p.tag),
            owners.w_en.eq(issued),
            burst_owner.client.eq(bursts.p.tag.client),
            burst_owner.last.eq(bursts.p.last),
            sideband.device_id.eq(self.device_id),
            sideband.queue.eq(bursts.p.tag.queue),
        ]
        with m.If(issued):
            m.d.sync += [
                addresses.valid.eq(1),
                addresses.p.addr.eq(bursts.p.address),
                addresses.p.len.eq(bursts.p.beats),
                addresses.p.size.eq(exact_log2(self._config.beat_bytes)),
                addresses.p.user.eq(sideband.sideband),
            ]
        with m.Elif(addresses.ready):
            m.d.sync += addresses.valid.eq(0)
        self._move(m, shapes, shape, self._collect(m, sources))
        self._respond(m, owners, owner)

    def _collect(self, m, sources) -> tuple[Signal, Signal, Signal]:
        """Register the beats of the clients in the order of their commands: valid, data, and the input ``take``."""
        valid, take = Signal(), Signal()
        beat = Signal(self._config.data_width)
        source = Array(port.data for port in self.clients)[sources.r_data]
        ready = Signal()
        m.d.comb += [
            ready.eq(sources.r_rdy & (~valid | take)),
            sources.r_en.eq(ready & source.valid & source.p.last),
        ]
        for i, port in enumerate(self.clients):
            m.d.comb += port.data.ready.eq(ready & (sources.r_data == i))
        with m.If(ready & source.valid):
            m.d.sync += [valid.eq(1), beat.eq(source.p.data)]
        with m.Elif(take):
            m.d.sync += valid.eq(0)
        return valid, beat, take

    def _move(self, m, shapes, shape, collected) -> None:
        """Rotate data to its lanes and form W beats."""
        valid, beat, take = collected
        burst = shape(shapes.r_data)
        beats = self.axi_w
        position = Signal(8)
        carry = Signal(self._config.data_width)
        rotated = Signal(self._config.data_width)
        low = Signal(self._config.beat_bytes)
        begins, ends, spilled, free, produced = Signal(), Signal(), Signal(), Signal(), Signal()
        strobe = Mux(begins, ~low, -1) & Mux(ends, below(burst.tag.end) | (1 << burst.tag.end), -1)
        m.d.comb += [
            rotated.eq(rotate_up(beat, burst.tag.shift)),
            low.eq(below(burst.tag.shift)),
            begins.eq(burst.first & (position == 0)),
            ends.eq(burst.last & (position == burst.beats)),
            spilled.eq(ends & burst.tag.spill),
            free.eq(~beats.valid | beats.ready),
            produced.eq(shapes.r_rdy & free & (valid | spilled)),
            take.eq(produced & ~spilled),
            shapes.r_en.eq(produced & (position == burst.beats)),
        ]
        with m.If(produced):
            m.d.sync += [
                beats.valid.eq(1),
                beats.p.data.eq(merge(carry, rotated, low)),
                beats.p.strb.eq(strobe),
                beats.p.last.eq(position == burst.beats),
                carry.eq(rotated),
                position.eq(Mux(shapes.r_en, 0, position + 1)),
            ]
        with m.Elif(free):
            m.d.sync += beats.valid.eq(0)

    def _respond(self, m, owners, owner) -> None:
        """Gather the responses of each command's bursts."""
        burst = owner(owners.r_data)
        responses = self.axi_b
        failed, failed_before = Signal(), Signal()
        last = owners.r_rdy & burst.last
        taken = Array(port.done.ready for port in self.clients)[burst.client]
        m.d.comb += [
            failed.eq(failed_before | (responses.p.resp != Response.OKAY)),
            responses.ready.eq(owners.r_rdy & (~burst.last | taken)),
            owners.r_en.eq(responses.valid & responses.ready),
        ]
        for i, port in enumerate(self.clients):
            m.d.comb += [
                port.done.valid.eq(responses.valid & last & (burst.client == i)),
                port.done.p.error.eq(failed),
            ]
        with m.If(owners.r_en):
            m.d.sync += failed_before.eq(failed & ~burst.last)
