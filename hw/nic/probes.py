# SPDX-License-Identifier: BSD-2-Clause
"""Simulation-only views of the streams inside the NIC: who waits for whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth import Cat, Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

RX_STREAMS = ("rx_frames", "rx_parsed", "rx_steered", "rx_segments")  #: inside :class:`hw.nic.rx.path.RxPath`
TX_STREAMS = ("tx_jobs", "tx_pieces", "tx_frames")  #: inside :class:`hw.nic.tx.path.TxPath`
#: Between the NIC's blocks, for each direction: descriptors in the cache, commands and data of their fetches, entries
#: for the completion writer, commands, data and answers of its lines.
RING_STREAMS = ("descriptors", "fetches", "fetched", "completions", "lines", "line_data", "lines_done")
DATA_STREAMS = ("rx_writes", "rx_data", "rx_written", "tx_reads", "tx_data")  #: commands, data, answers of both paths
NIC_STREAMS = (
    *RX_STREAMS,
    *TX_STREAMS,
    *(f"{direction}_{name}" for direction in ("rx", "tx") for name in RING_STREAMS),
    *DATA_STREAMS,
)  #: of :class:`hw.nic.nic.Nic`

Handshake = tuple[Value, Value]


class Probes(wiring.Signature):
    """The handshakes of streams: bit *i* of ``valid`` and ``ready`` is that of the stream ``names[i]``."""

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        super().__init__({"valid": Out(len(self.names)), "ready": Out(len(self.names))})


def handshakes(**streams: Any) -> dict[str, Handshake]:
    """``valid`` and ``ready`` of each stream."""
    return {name: (stream.valid, stream.ready) for name, stream in streams.items()}


def descriptor_handshake(port: Any) -> Handshake:
    """A :class:`hw.nic.interfaces.DescriptorPort` as a stream: its consumer takes notice of each descriptor that
    arrives at once."""
    return port.arrived.strobe, Const(1)


def show(m: Module, probes: Any, shown: Mapping[str, Handshake]) -> None:
    """Drive probes; ``ValueError`` unless it is with exactly the handshakes that their signature names."""
    names = probes.signature.names
    if shown.keys() != set(names):
        raise ValueError(f"Probes are for {', '.join(names)}, not for {', '.join(shown)}")
    m.d.comb += [
        probes.valid.eq(Cat(shown[name][0] for name in names)),
        probes.ready.eq(Cat(shown[name][1] for name in names)),
    ]


def bits(probes: Any) -> dict[str, Handshake]:
    """The handshakes that probes show, by name."""
    return {name: (probes.valid[place], probes.ready[place]) for place, name in enumerate(probes.signature.names)}
