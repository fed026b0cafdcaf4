# SPDX-License-Identifier: BSD-2-Clause
"""How recycling is joined to the NIC's other blocks."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import data

from hw.abi.rings import FillDescriptor, TxDescriptor, TxDescriptorType
from hw.bus.join import join
from hw.nic.recycle.carried import CarriedTranslations
from hw.nic.recycle.recycler import Recycler


def join_recycler(m: Module, recycler: Recycler, registers: Any, rx: Any, tx: Any, fetch: Any, interrupts: Any) -> None:
    """Buffers go round: from RX and software to TX and registers, and to the fill rings' cache."""
    for source, sink in (
        (registers.pool_write, recycler.write),
        (fetch.fills, recycler.fills),
        (recycler.supply, fetch.supply),
        (rx.delivered, recycler.delivered),
        (tx.claims, recycler.tx_claims),
        (recycler.verdict, tx.verdict),
        (tx.returned, recycler.returned),
        (recycler.interrupt, interrupts.pool_interrupt),
    ):
        join(m, source, sink)
    take, drop = rx.descriptors.take, rx.drop_event
    m.d.comb += [
        *(getattr(recycler.given, name).eq(getattr(take, name)) for name in take.signature.members),
        *(getattr(recycler.dropped, name).eq(getattr(drop, name)) for name in drop.signature.members),
        recycler.rx_busy.eq(rx.control.busy),
        recycler.read.eq(registers.pool_read),
        registers.pool_values.eq(recycler.values),
        registers.returns_full.eq(recycler.returns_full),
        registers.command_busy.eq(recycler.command_busy),
        fetch.pooled.eq(recycler.pooled),
        fetch.wanted.eq(recycler.wanted),
        fetch.supplying.eq(recycler.supplying),
        rx.pool_refused.eq(recycler.refused),
        rx.pool_limited.eq(recycler.limited),
    ]


def join_carried(
    m: Module,
    carried: CarriedTranslations,
    recycler: Recycler,
    registers: Any,
    rx: Any,
    tx: Any,
    reader: Any,
    writer: Any,
) -> None:
    """Transfers pass it on their way to the DMA, and descriptors tell it what will be accessed."""
    write, read = writer.clients[0], reader.clients[2]
    for source, sink in (
        (carried.writes_out, write.command),
        (rx.write.data, write.data),
        (write.done, rx.write.done),
        (tx.read.command, carried.reads),
        (carried.reads_out, read.command),
        (read.data, tx.read.data),
        (carried.read, reader.clients[3]),
    ):
        join(m, source, sink)
    # RX knows a buffer's id, and its queue the pool.
    command, given = rx.write.command, carried.writes
    queue = command.payload.queue
    m.d.comb += [
        given.valid.eq(command.valid),
        command.ready.eq(given.ready),
        given.payload.eq(command.payload),
        given.payload.named.eq(command.payload.named & recycler.existing.bit_select(queue, 1)),
        given.payload.pool.eq(recycler.pools[queue]),
        carried.written.eq(write.done.valid & write.done.ready),
        carried.have_read.eq(read.data.valid & read.data.ready & read.data.payload.last),
        carried.enable.eq(registers.ats_control.carry),
        registers.ats_status.refused.eq(carried.refused),
    ]
    for want, path, layout in zip(carried.prefetches, (rx, tx), (FillDescriptor, TxDescriptor), strict=True):
        arrived = path.descriptors.arrived
        entry = data.View(layout, arrived.entry)
        has_data = entry.type == TxDescriptorType.DATA if layout is TxDescriptor else 1
        m.d.comb += [
            want.strobe.eq(arrived.strobe & has_data & registers.ats_control.prefetch & ~registers.ats_control.carry),
            want.queue.eq(arrived.queue),
            want.address.eq(entry.address),
        ]
