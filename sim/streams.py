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
#: Streams behind which waiting is not seen as a stall before them: the packet buffers of both directions, which drop
#: frames or ask for no more, and read data, for which room is kept.
_ELASTIC = ("wire_rx", "rx_frames", "tx_descriptors", "memory_r", "host_r", "axi_r", "tx_frames")


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
    """A part on a frame's way, and how busy it is.

    ``working`` : per cent of the time in which the part neither lacked work nor was held up by what is behind it. A
    part without input is never without work; one without output is never held up. Work that waits for it counts only as
    far as it holds up the parts before it too: a transfer that waits for its address keeps nobody. Inside, a part may
    work on while its input is empty, so the time in which its output moves counts at least.
    ``holding`` : per cent of the time in which it holds up those before it.
    """

    name: str
    working: float
    holding: float = 0.0


def stages(direction: str, machine: MachineConfig, counts: Mapping[str, StreamCount]) -> list[Stage]:
    """The parts on the way of a direction's frames, ``rx`` or ``tx``, in order; a part that it passes twice is there
    twice."""
    ends = stream_ends(machine)
    way = [name for name in WAYS[direction] if name in ends]
    first = counts[way[0]]
    found = [Stage(ends[way[0]].source, 100 - first.share(first.stalled))]
    felt = 1.0  # share of the time in which all parts before this one are held up
    for place, name in enumerate(way):
        count = counts[name]
        felt = count.stalled / count.cycles if name in _ELASTIC else min(felt, count.stalled / count.cycles)
        following = counts[way[place + 1]] if name != way[-1] else None
        moving = count.share(count.moved)
        working = moving + 100 * felt
        if following:
            moving = max(moving, following.share(following.moved))
            working -= following.share(following.stalled)
        found.append(Stage(ends[name].sink, max(working, moving), 100 * felt))
    return found


def bottleneck(found: list[Stage]) -> Stage:
    """The part that limits: of those that work about as much of the time as the busiest, the last that holds up others;
    the first if none does, and the way's source only if it is alone."""
    most = max(stage.working for stage in found)
    busy = [stage for stage in found if stage.working >= most - _CLOSE]
    holding = [stage for stage in busy if stage.holding > _CLOSE]
    return holding[-1] if holding else busy[min(len(busy), 2) - 1 if busy[0] is found[0] else 0]
