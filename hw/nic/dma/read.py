# SPDX-License-Identifier: BSD-2-Clause
"""Reads from host memory: several clients' transfers over one AXI read channel."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from hw.bus.axi4 import AXI4Signature
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.dma.lanes import rotate_down
from hw.nic.dma.realign import ReadRealigner
from hw.nic.dma.sideband import SidebandTable
from hw.nic.dma.split import BurstSplitter
from hw.nic.interfaces import QueueWrite, ReadPort


class DmaReader(wiring.Component):
    """Read the transfers of several clients from memory.

    Commands are taken round robin. A client's bursts have its number as AXI ID, so memory keeps the order within a
    client and may interleave beats of different clients.

    **Timing.** A command's first address is offered two cycles after the command is taken; data follows R by three
    cycles. One R beat a cycle, within and between commands. A cycle is lost only where an unaligned command's bytes
    fill as many beats as its addresses touch, and the client's next command is aligned or a single beat.

    **Backpressure.** At most ``outstanding_reads`` bursts are under way. A client that pauses ``data`` stalls R for all
    clients as soon as a beat of its own is at the front.

    **Errors.** If any beat of a command is answered with anything but OKAY, its last beat of ``data`` has ``error``;
    the number of bytes is as commanded all the same.

    Parameters
    ----------
    config : NicConfig
    clients : number of clients
    id_width : bits of AXI IDs

    Members
    -------
    clients[i] : ReadPort, flipped
    axi_ar, axi_r : the read half of AXI4Signature
    queue_write, device_id : what the AXI sideband is made of, see SidebandTable
    """

    def __init__(self, config: NicConfig, clients: int, *, id_width: int = 8):
        if not isinstance(clients, int) or not 1 <= clients <= 16:
            raise ValueError(f"Clients must be an integer in 1..16, not {clients!r}")
        axi = AXI4Signature(config.data_width, id_width=id_width).members
        if clients > 1 << id_width:
            raise ValueError(f"Clients must be at most {1 << id_width} with IDs of {id_width} bits, not {clients!r}")
        self._config = config
        self._count = clients
        super().__init__(
            {
                "clients": In(ReadPort(config)).array(clients),
                "axi_ar": axi["ar"],
                "axi_r": axi["r"],
                "queue_write": In(QueueWrite(config)),
                "device_id": In(24),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        tag = data.StructLayout({"queue": range(config.queues), "client": range(max(2, self._count))})
        m.submodules.splitter = splitter = BurstSplitter(
            beat_bytes=config.beat_bytes, max_burst_bytes=config.max_burst_bytes, tag=tag
        )
        realigners = [ReadRealigner(config) for _ in range(self._count)]
        for i, realigner in enumerate(realigners):
            m.submodules[f"realigner_{i}"] = realigner
            wiring.connect(m, realigner.data, wiring.flipped(self.clients[i].data))
        self._accept(m, splitter.transfers, realigners)
        self._issue(m, splitter.bursts)
        self._distribute(m, realigners)
        return m

    def _accept(self, m, transfers, realigners) -> None:
        """Take commands in turn; tell the client's realigner what will come back."""
        m.submodules.arbiter = arbiter = RoundRobin(self._count)
        commands = [port.command for port in self.clients]
        # A client whose realigner expects enough already stands back, so that it does not hold up the others.
        willing = [port.valid & realigner.expect.ready for port, realigner in zip(commands, realigners, strict=True)]
        command = Array(port.p for port in commands)[arbiter.grant]
        m.d.comb += [
            arbiter.requests.eq(sum(bit << i for i, bit in enumerate(willing))),
            arbiter.taken.eq(transfers.ready),
            transfers.valid.eq(arbiter.valid),
            transfers.p.address.eq(command.address),
            transfers.p.length.eq(command.length),
            transfers.p.tag.queue.eq(command.queue),
            transfers.p.tag.client.eq(arbiter.grant),
        ]
        for i, (port, realigner) in enumerate(zip(commands, realigners, strict=True)):
            m.d.comb += [
                port.ready.eq(arbiter.valid & transfers.ready & (arbiter.grant == i)),
                realigner.expect.valid.eq(port.valid & port.ready),
                realigner.expect.p.shift.eq(port.p.address),
                realigner.expect.p.length.eq(port.p.length),
            ]

    def _issue(self, m, bursts) -> None:
        """Send each burst's address while the bound on outstanding ones allows it."""
        config = self._config
        m.submodules.sideband = sideband = SidebandTable(config)
        wiring.connect(m, sideband.write, wiring.flipped(self.queue_write))
        addresses, beats = self.axi_ar, self.axi_r
        outstanding = Signal(range(config.outstanding_reads + 1))
        issued, returned = Signal(), Signal()
        m.d.comb += [
            bursts.ready.eq((~addresses.valid | addresses.ready) & (outstanding != config.outstanding_reads)),
            issued.eq(bursts.valid & bursts.ready),
            returned.eq(beats.valid & beats.ready & beats.p.last),
            sideband.device_id.eq(self.device_id),
            sideband.queue.eq(bursts.p.tag.queue),
        ]
        m.d.sync += outstanding.eq(outstanding + issued - returned)
        with m.If(issued):
            m.d.sync += [
                addresses.valid.eq(1),
                addresses.p.id.eq(bursts.p.tag.client),
                addresses.p.addr.eq(bursts.p.address),
                addresses.p.len.eq(bursts.p.beats),
                addresses.p.size.eq(exact_log2(config.beat_bytes)),
                addresses.p.user.eq(sideband.sideband),
            ]
        with m.Elif(addresses.ready):
            m.d.sync += addresses.valid.eq(0)

    def _distribute(self, m, realigners) -> None:
        """Rotate each R beat to lane 0, as the realigner of its ID planned, and give it to that one in the next
        cycle."""
        m.submodules.skid = skid = SkidBuffer(self.axi_r.p.shape())
        wiring.connect(m, wiring.flipped(self.axi_r), skid.input)
        beats = skid.output
        plan = Signal.like(realigners[0].plan)
        valid, room, planned, moves = Signal(), Signal(init=1), Signal(), Signal()
        client = Signal(range(len(realigners)))
        rotated = Signal.like(realigners[0].beats.p)
        m.d.comb += [
            beats.ready.eq(planned & room),
            moves.eq(beats.valid & beats.ready),
        ]
        for i, realigner in enumerate(realigners):
            mine, holds = beats.p.id == i, client == i
            with m.If(mine):
                m.d.comb += [plan.eq(realigner.plan), planned.eq(realigner.planned)]
            with m.If(holds):
                m.d.comb += room.eq(~valid | realigner.beats.ready)
            m.d.comb += [
                realigner.step.eq(moves & mine),
                realigner.beats.valid.eq(valid & holds),
                realigner.beats.p.eq(rotated),
            ]
        with m.If(room):
            m.d.sync += valid.eq(moves)
        with m.If(moves):
            m.d.sync += [
                client.eq(beats.p.id),
                rotated.data.eq(rotate_down(beats.p.data, plan.shift)),
                rotated.resp.eq(beats.p.resp),
                rotated.plan.eq(plan),
            ]
