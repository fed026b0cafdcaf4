# SPDX-License-Identifier: BSD-2-Clause
"""Host memory: latency, bandwidth, bounded queues, and a port of its own for page-table walks."""

from typing import Any

from amaranth import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.axi4 import PAGE_BYTES, AXI4Signature
from sim.host.delay import TIME_BITS
from sim.host.dram_config import DramConfig
from sim.host.dram_port import ADDRESS_BITS, MemoryReads, MemoryWrites
from sim.host.exclusive import ExclusiveMonitor
from sim.host.lane import Lane
from sim.host.storage import StoragePort


class Dram(wiring.Component):
    """Memory from physical address 0 on, in front of a storage primitive.

    - **Writes:** a beat's bytes are written on the clock edge that takes it on W: readers see them from the next cycle
      on. B comes ``write_latency_ns`` after the last beat.
    - **Reads:** a word is read from storage two cycles before it is offered on R: the first beat ``read_latency_ns``
      (of ``walker``: ``walker_latency_ns``) after AR, the others one a cycle after it. A word read and written on the
      same edge reads as it was before.
    - Responses of a port come in the order of its requests, R and B apart. Reads and writes do not wait for each other.
    - **Bandwidth** is shared by all accesses, in the order of AR and of last W beats. A burst's transfer begins when
      those ahead of it are over; its first cycle is part of the latency, further ones add to it. A burst of W goes at
      full rate; the delay of B, and with it the bound on outstanding accesses, holds writers to the bandwidth.
    - The ports have queues of their own, each of ``outstanding`` bursts for each direction; a full one keeps AR, or W,
      waiting. Where both want the storage in one cycle, they take turns.
    - **Errors:** a burst outside memory is answered DECERR, and no byte of it is written or read. Bursts are INCR and
      stay in their page (IHI 0022, A3.4.1), so they are inside or outside as a whole. Beats may be narrow and the
      first unaligned.
    - **Exclusives** on ``walker``: single beats in an aligned word of 8 bytes; see
      :class:`sim.host.exclusive.ExclusiveMonitor`. A granted write and every exclusive read answer EXOKAY; a refused
      one answers OKAY and writes nothing. Software's stores, which no port sees, end a reservation by changing its
      word. An exclusive write keeps W for two cycles, and writes in the first. On ``data`` they are ordinary accesses.

    Parameters
    ----------
    config : latency, bandwidth, bounds
    width : bits of a word
    size : bytes, a multiple of 4096
    clock_khz : clock frequency
    id_width : bits of AXI IDs

    Ports
    -----
    data, walker : AXI4 from managers
    storage : StoragePort
    """

    def __init__(self, config: DramConfig, width: int, size: int, clock_khz: int, *, id_width: int = 8):
        if not isinstance(config, DramConfig):
            raise TypeError(f"config must be a DramConfig, not {config!r}")
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"Memory size must be an integer, not {size!r}")
        if size <= 0 or size % PAGE_BYTES:
            raise ValueError(f"Memory size must be a positive multiple of {PAGE_BYTES} bytes, not {size!r}")
        axi = AXI4Signature(width, id_width=id_width, addr_width=ADDRESS_BITS)
        self.config = config
        self.width = width
        self.size = size
        self.clock_khz = clock_khz
        self.id_width = id_width
        super().__init__({"data": In(axi), "walker": In(axi), "storage": Out(StoragePort(width, exchange=True))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        now = Signal(TIME_BITS)
        m.d.sync += now.eq(now + 1)
        m.submodules.lane = lane = Lane(self.config.bytes_per_cycle(self.clock_khz), 0, 4)
        m.d.comb += lane.now.eq(now)

        reads, writes = [], []
        entries = iter(lane.entries)
        for name, port in (("walker", self.walker), ("data", self.data)):
            shared: dict[str, Any] = {
                "size": self.size,
                "outstanding": self.config.outstanding,
                "exclusives": name == "walker",
            }
            latency = self.config.walker_cycles if name == "walker" else self.config.read_cycles
            read = MemoryReads(self.width, self.id_width, latency=latency(self.clock_khz), **shared)
            write = MemoryWrites(self.width, self.id_width, latency=self.config.write_cycles(self.clock_khz), **shared)
            m.submodules[f"{name}_reads"] = read
            m.submodules[f"{name}_writes"] = write
            for half, channels in ((read, ("ar", "r")), (write, ("aw", "w", "b"))):
                m.d.comb += half.now.eq(now)
                connect(m, half.lane, next(entries))
                for channel in channels:
                    outer, inner = flipped(getattr(port, channel)), getattr(half, channel)
                    connect(m, outer, inner)
            m.d.comb += read.word.eq(self.storage.read_data)
            reads.append(read)
            writes.append(write)
        _share(m, "read", *reads)
        _share(m, "write", *writes)

        storage = self.storage
        word_bits = (self.width // 8).bit_length() - 1
        for read in reads:
            with m.If(read.grant):
                m.d.comb += [
                    storage.read_enable.eq(read.inside),
                    storage.read_address.eq(_word(read.address, word_bits)),
                ]
        for write in writes:
            with m.If(write.grant):
                m.d.comb += [
                    storage.write_enable.eq(write.enable),
                    storage.write_address.eq(_word(write.address, word_bits)),
                    storage.write_data.eq(write.w.payload.data),
                    storage.write_strobe.eq(write.w.payload.strb),
                ]

        m.d.comb += [
            storage.write_exchange.eq(writes[0].grant & writes[0].exclusive.attempt),
            writes[0].exchanged.eq(storage.write_exchanged),
        ]
        m.submodules.monitor = monitor = ExclusiveMonitor(self.width, self.id_width, self.config.monitors)
        connect(m, reads[0].exclusive, monitor.read)
        connect(m, writes[0].exclusive, monitor.write)
        m.d.comb += [
            monitor.written.eq(storage.write_enable),
            monitor.address.eq(storage.write_address),
            monitor.strobe.eq(storage.write_strobe),
            monitor.word.eq(storage.read_data),
            storage.write_expected.eq(monitor.expected),
        ]
        return m


def _word(address: Value, word_bits: int) -> Value:
    return (address >> word_bits) << word_bits


def _share(m: Module, name: str, walker: Any, other: Any) -> None:
    """Grant the storage to whoever asks, and to each in turn if both do."""
    walker_next = Signal(init=1, name=f"{name}_walker_next")
    m.d.comb += [
        walker.grant.eq(walker.request & (walker_next | ~other.request)),
        other.grant.eq(other.request & ~walker.grant),
    ]
    with m.If(walker.request & other.request):
        m.d.sync += walker_next.eq(~walker_next)
