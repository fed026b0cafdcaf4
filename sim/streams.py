# SPDX-License-Identifier: BSD-2-Clause
"""Streams of the whole machine, from the wire to memory: between which parts they run, and who keeps whom waiting.

:mod:`sim.host.stream_account` counts them while a machine with probes runs; :mod:`sim.account` has an account of a
packet's cycles for every machine, from what the run moved.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hw.nic.probes import NIC_STREAMS
from sim.config import MachineConfig
from sim.host.stream_account import StreamCount

#: Reads by the client that asks: the NIC's AXI IDs 0, 1, 2.
READ_CLIENTS = ("axi_ar_rx_descriptors", "axi_ar_tx_descriptors", "axi_ar_tx_data")
AMOUNTS = ("up_bytes", "down_bytes")  #: of the host link, with overhead
LINK, IOMMU, MEMORY = "link", "IOMMU", "memory"
_CLOSE = 2.0  #: per cent: two stages that differ by less work equally much


class Ends(NamedTuple):
    """The parts that a stream runs between."""

    source: str
    sink: str


def _channels(bus: str, writer: str, reader: str, far: str) -> dict[str, Ends]:
    ends = {"aw": Ends(writer, far), "w": Ends(writer, far), "b": Ends(far, writer)}
    ends |= {"ar": Ends(reader, far), "r": Ends(far, reader)}
    return {f"{bus}_{channel}": each for channel, each in ends.items()}


def _rings(direction: str, consumer: str, producer: str) -> dict[str, Ends]:
    fetch, completions = f"{direction.upper()} fetch", f"{direction.upper()} completions"
    ends = {
        "descriptors": Ends(fetch, consumer),
        "fetches": Ends(fetch, "DMA reader"),
        "fetched": Ends("DMA reader", fetch),
        "completions": Ends(producer, completions),
        "lines": Ends(completions, "DMA writer"),
        "line_data": Ends(completions, "DMA writer"),
        "lines_done": Ends("DMA writer", completions),
    }
    return {f"{direction}_{name}": each for name, each in ends.items()}


_NIC_ENDS = {
    "rx_frames": Ends("ingress", "classifier"),
    "rx_parsed": Ends("classifier", "steering"),
    "rx_steered": Ends("steering", "planner"),
    "rx_segments": Ends("planner", "RX writer"),
    "tx_jobs": Ends("scheduler", "gather"),
    "tx_pieces": Ends("scheduler", "gather"),
    "tx_frames": Ends("gather", "egress"),
    **_rings("rx", "planner", "RX writer"),
    **_rings("tx", "scheduler", "gather"),
    "rx_writes": Ends("RX writer", "DMA writer"),
    "rx_data": Ends("RX writer", "DMA writer"),
    "rx_written": Ends("DMA writer", "RX writer"),
    "tx_reads": Ends("gather", "DMA reader"),
    "tx_data": Ends("DMA reader", "gather"),
}
#: A frame's way through a machine with an IOMMU, where it is data or a request for data.
WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rx": (
            *("wire_rx", "rx_frames", "rx_parsed", "rx_steered", "rx_segments"),
            *("rx_data", "axi_w", "host_w", "memory_w"),
        ),
        "tx": (
            *("tx_descriptors", "tx_jobs", "tx_reads", "axi_ar", "host_ar", "memory_ar"),
            *("memory_r", "host_r", "axi_r", "tx_data", "tx_frames", "wire_tx"),
        ),
    }
)


def stream_ends(machine: MachineConfig) -> dict[str, Ends]:
    """All streams that a machine with probes accounts for, in their order, and the parts they run between."""
    ends = {name: _NIC_ENDS[name] for name in NIC_STREAMS}
    ends |= {"wire_rx": Ends("wire", "ingress"), "wire_tx": Ends("egress", "wire"), "registers": Ends(LINK, "NIC")}
    ends |= _channels("axi", "DMA writer", "DMA reader", LINK)
    ends |= dict.fromkeys(READ_CLIENTS, ends["axi_ar"])
    if machine.iommu is None:
        return ends | _channels("host", LINK, LINK, MEMORY)
    return ends | _channels("host", LINK, LINK, IOMMU) | _channels("memory", IOMMU, IOMMU, MEMORY)


def record_names(machine: MachineConfig) -> tuple[str, ...]:
    """Names of all records of the account, for :class:`sim.host.stream_account.AccountClient`."""
    return (*stream_ends(machine), *AMOUNTS)


class Stage(NamedTuple):
    """A part on a frame's way."""

    name: str
    input: StreamCount | None  #: None of the way's first part
    output: StreamCount | None  #: None of its last

    @property
    def working(self) -> float:
        """Per cent of its time in which the part neither lacked work nor was held up by what is behind it.

        A part that has no input is never without work; one without output is never held up. Inside, a part may work on
        while its input is empty, so the time in which its output moves counts at least.
        """
        lacking = self.input.share(self.input.cycles - self.input.moved - self.input.stalled) if self.input else 0.0
        held_up = self.output.share(self.output.stalled) if self.output else 0.0
        moving = [count.share(count.moved) for count in (self.input, self.output) if count]
        return max(100 - lacking - held_up, *moving)


def stages(direction: str, machine: MachineConfig, counts: Mapping[str, StreamCount]) -> list[Stage]:
    """The parts on the way of a direction's frames, ``rx`` or ``tx``, in order; a part that it passes twice is there
    twice."""
    ends = stream_ends(machine)
    way = [name for name in WAYS[direction] if name in ends]
    before: list[StreamCount | None] = [None, *(counts[name] for name in way)]
    after: list[StreamCount | None] = [*(counts[name] for name in way), None]
    names = [ends[way[0]].source, *(ends[name].sink for name in way)]
    return [Stage(*each) for each in zip(names, before, after, strict=True)]


def bottleneck(found: list[Stage]) -> Stage:
    """The part that limits: the one that works most of the time. Where several work about as much as the busiest, the
    last of them holds the others up, or they all keep up with the first."""
    most = max(stage.working for stage in found)
    return [stage for stage in found if stage.working >= most - _CLOSE][-1]
