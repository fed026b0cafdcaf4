# SPDX-License-Identifier: BSD-2-Clause
"""Reads from host memory: several clients' transfers over one AXI read channel."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, connect, flipped
from amaranth.utils import ceil_log2, exact_log2

from hw.abi.rings import AddressType
from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.room import Room
from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.merge import CommandMerge
from hw.nic.dma.realign import ReadRealigner
from hw.nic.dma.reorder import ReorderBuffer
from hw.nic.dma.sideband import SidebandTable
from hw.nic.dma.split import BurstSplitter
from hw.nic.interfaces import QueueWrite, ReadPort

_IN_PIPELINE = 16  #: commands between acceptance and the address, or between R and the client


class DmaReader(wiring.Component):
    """Read the transfers of several clients from memory.

    Commands are taken round robin, and their bursts' addresses go out in that order. The low bits of a burst's AXI ID
    are the number of its client. A client with one ID has 0 above them: memory keeps the order of its bursts. One with
    several numbers its bursts in turn there: memory may answer them in any order, and they wait for their turn in the
    client's reorder buffer (:class:`hw.nic.dma.reorder.ReorderBuffer`). Beats of different IDs may interleave.

    **Timing.** A command's first address is offered seven cycles after the command is taken; data follows R by three
    cycles, with a reorder buffer by seven. One R beat a cycle, within and between commands. A cycle is lost only where
    an unaligned command's bytes fill as many beats as its addresses touch, and the client's next command is aligned or
    a single beat; not of R, where there is a reorder buffer.

    **Backpressure.** At most ``outstanding_reads`` bursts are under way, and of each client at most 16 commands more
    than that. A client with one ID that pauses ``data`` stalls R for all clients as soon as a beat of its own is at the
    front. One with several never does; once all slots of its reorder buffer are taken, its next burst holds up those of
    commands accepted later.

    **Errors.** If any beat of a command is answered with anything but OKAY, its last beat of ``data`` has ``error``;
    the number of bytes is as commanded all the same.

    Parameters
    ----------
    config : NicConfig
    ids : AXI IDs of each client, powers of two; as many clients
    id_width : bits of AXI IDs

    Members
    -------
    clients[i] : ReadPort, flipped
    axi_ar, axi_r : the read half of AXI4Signature
    queue_write, device_id : what the AXI sideband is made of, see SidebandTable
    """

    def __init__(self, config: NicConfig, ids: Sequence[int], *, id_width: int = 8):
        if not 1 <= len(ids) <= 16:
            raise ValueError(f"Clients must be 1..16, not {len(ids)!r}")
        self._client_bits = max(1, ceil_log2(len(ids)))
        for count in ids:
            most = (1 << id_width) >> self._client_bits
            if not isinstance(count, int) or not 1 <= count <= most or count & (count - 1):
                raise ValueError(
                    f"IDs of one of {len(ids)} clients must be a power of two in 1..{most} with IDs of {id_width} bits,"
                    f" not {count!r}"
                )
        axi = AXI4Signature(config.data_width, id_width=id_width).members
        self._config = config
        self._ids = tuple(ids)
        self._commands = config.outstanding_reads + _IN_PIPELINE
        super().__init__(
            {
                "clients": In(ReadPort(config)).array(len(ids)),
                "axi_ar": axi["ar"],
                "axi_r": axi["r"],
                "queue_write": In(QueueWrite(config)),
                "device_id": In(24),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        kind = {"address_type": AddressType} if config.ats else {}
        tag = data.StructLayout({"queue": range(config.queues), "client": self._client_bits, **kind})
        m.submodules.splitter = splitter = BurstSplitter(
            beat_bytes=config.beat_bytes, max_burst_bytes=config.max_burst_bytes, tag=tag
        )
        realigners = [ReadRealigner(config, self._commands) for _ in self._ids]
        for i, realigner in enumerate(realigners):
            m.submodules[f"realigner_{i}"] = realigner
            connect(m, realigner.data, flipped(self.clients[i].data))
        buffers = {i: ReorderBuffer(config, count) for i, count in enumerate(self._ids) if count > 1}
        for i, buffer in buffers.items():
            m.submodules[f"reorder_{i}"] = buffer
            connect(m, buffer.output, realigners[i].beats)
        self._accept(m, splitter.transfers, realigners)
        self._issue(m, splitter.bursts, buffers)
        self._distribute(m, realigners, buffers)
        return m

    def _accept(self, m, transfers, realigners) -> None:
        """Take commands in turn; tell the client's realigner what will come back."""
        m.submodules.merge = merge = CommandMerge(self._config, len(self._ids))
        command, client = merge.output.p.command, merge.output.p.client
        m.d.comb += [
            merge.output.ready.eq(transfers.ready),
            transfers.valid.eq(merge.output.valid),
            transfers.p.address.eq(command.address),
            transfers.p.length.eq(command.length),
            transfers.p.tag.queue.eq(command.queue),
            transfers.p.tag.client.eq(client),
        ]
        if self._config.ats:
            m.d.comb += transfers.p.tag.address_type.eq(command.address_type)
        for i, (port, realigner) in enumerate(zip(self.clients, realigners, strict=True)):
            offered, merged = port.command, merge.clients[i]
            # A client whose realigner expects enough already stands back, so that it does not hold up the others.
            m.submodules[f"expected_{i}"] = expected = Room(self._commands)
            m.d.comb += [
                offered.ready.eq(merged.ready & expected.room),
                merged.valid.eq(offered.valid & expected.room),
                merged.p.eq(offered.p),
                expected.take.eq(offered.valid & offered.ready),
                expected.give.eq(realigner.finished),
                realigner.expect.valid.eq(expected.take),
                realigner.expect.p.shift.eq(offered.p.address),
                realigner.expect.p.length.eq(offered.p.length),
            ]

    def _issue(self, m, bursts, buffers) -> None:
        """Send each burst's address while the bound on outstanding ones allows it, and its client has a slot for it."""
        config = self._config
        m.submodules.sideband = sideband = SidebandTable(config)
        m.submodules.outstanding = outstanding = Room(config.outstanding_reads)
        m.submodules.addresses = addresses = SkidBuffer(self.axi_ar.p.shape())
        connect(m, sideband.write, flipped(self.queue_write))
        connect(m, addresses.output, flipped(self.axi_ar))
        burst, beats, address = bursts.p, self.axi_r, addresses.input
        room, number = Signal(init=1), Signal(range(max(self._ids)))
        for i, buffer in buffers.items():
            with m.If(burst.tag.client == i):
                m.d.comb += [room.eq(buffer.room), number.eq(buffer.number)]
            m.d.comb += [
                buffer.reserve.eq(address.valid & address.ready & (burst.tag.client == i)),
                buffer.beats.eq(burst.beats),
            ]
        m.d.comb += [
            address.valid.eq(bursts.valid & outstanding.room & room),
            bursts.ready.eq(address.ready & outstanding.room & room),
            outstanding.take.eq(address.valid & address.ready),
            outstanding.give.eq(beats.valid & beats.ready & beats.p.last),
            sideband.device_id.eq(self.device_id),
            sideband.queue.eq(burst.tag.queue),
            address.p.id.eq(Cat(burst.tag.client, number)),
            address.p.addr.eq(burst.address),
            address.p.len.eq(burst.beats),
            address.p.size.eq(exact_log2(config.beat_bytes)),
            address.p.user.eq(sideband.sideband),
        ]
        if config.ats:
            m.d.comb += sideband.address_type.eq(burst.tag.address_type)

    def _distribute(self, m, realigners, buffers) -> None:
        """Give each R beat to the realigner or the reorder buffer of its client."""
        m.submodules.skid = skid = SkidBuffer(self.axi_r.p.shape())
        connect(m, flipped(self.axi_r), skid.input)
        beat = skid.output.p
        client, number = beat.id[: self._client_bits], beat.id[self._client_bits :]
        error = beat.resp != Response.OKAY
        for i, realigner in enumerate(realigners):
            if i in buffers:
                landing = buffers[i].landing
                m.d.comb += [landing.p.number.eq(number), landing.p.last.eq(beat.last)]
                target, taken = landing.p.beat, landing.ready
            else:
                landing = realigner.beats
                target, taken = landing.p, landing.ready
            m.d.comb += [
                landing.valid.eq(skid.output.valid & (client == i)),
                target.data.eq(beat.data),
                target.error.eq(error),
            ]
            with m.If(client == i):
                m.d.comb += skid.output.ready.eq(taken)
