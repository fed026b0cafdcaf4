# SPDX-License-Identifier: BSD-2-Clause
"""The most packets a second that a machine can carry, from arithmetic alone; no result may exceed it.

Each part is given its best case: frames start at a 64-byte line, completions go out four to a line, descriptors come in
the largest bursts, TX asks for no completions, doorbells and interrupts are free.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction

from hw.abi.rings import ENTRIES_PER_LINE, ENTRY_BYTES, LINE_BYTES
from hw.config import NicConfig
from sim.host.link_config import LinkConfig
from sim.traffic.pacing import LineRate


def ceilings(
    nic: NicConfig,
    link: LinkConfig,
    line: LineRate,
    lengths: Mapping[int, int],
    *,
    receive: bool = True,
    transmit: bool,
    recycle: bool = False,
    offset: int = 0,
    host_width: int | None = None,
) -> Mapping[str, Fraction]:
    """Packets a second, in each direction, that each part could carry of frames with these lengths (without FCS).

    Parameters as of :func:`demands`. Returns the bounds ``wire``, ``stream`` (beats of the NIC's packet stream),
    ``axi`` (beats of the NIC's data channels) and ``link`` (bytes of the host link; absent where it is wires).
    """
    clock = Fraction(nic.clock_khz * 1000)
    bounds: dict[str, Fraction] = {}
    ways = {"receive": receive, "transmit": transmit, "recycle": recycle}
    for channel, cycles in demands(nic, link, line, lengths, **ways, offset=offset, host_width=host_width).items():
        part = channel.split("_")[0]
        bounds[part] = min(bounds.get(part, clock), clock / cycles)
    return bounds


def demands(
    nic: NicConfig,
    link: LinkConfig,
    line: LineRate,
    lengths: Mapping[int, int],
    *,
    receive: bool,
    transmit: bool,
    recycle: bool = False,
    offset: int = 0,
    host_width: int | None = None,
) -> Mapping[str, Fraction]:
    """Cycles of each channel that a frame in each direction takes, of frames with these lengths (without FCS).

    Parameters
    ----------
    nic, link : the machine
    line : the MAC's rate; its load does not count
    lengths : how many frames there are of each length
    receive, transmit : frames are received, and sent
    recycle : receive buffers recycle in hardware: no RX descriptors are read
    offset : of a frame's first byte from a beat's
    host_width : bits of a beat of the link, the NIC's own by default

    Returns those of ``wire_rx``, ``wire_tx``, ``stream_rx``, ``stream_tx``, ``axi_write``, ``axi_read``, ``link_up``
    and ``link_down`` that are used.
    """
    if not sum(lengths.values()):
        raise ValueError(f"Ceilings need at least one frame, not {lengths!r}")
    beat = nic.beat_bytes
    data_beats = _mean(lengths, lambda length: -(-(offset % beat + length) // beat))
    entry_beats = Fraction(-(-LINE_BYTES // beat), ENTRIES_PER_LINE)
    found = {}
    for way, used in (("rx", receive), ("tx", transmit)):
        if used:
            found[f"wire_{way}"] = _mean(lengths, line.frame_cycles)
            found[f"stream_{way}"] = _mean(lengths, lambda length: -(-length // beat))
    found["axi_write"] = (data_beats + entry_beats) * receive
    found["axi_read"] = entry_beats * (receive and not recycle) + (data_beats + entry_beats) * transmit
    if not link.wires:
        ways = {"receive": receive, "transmit": transmit, "recycle": recycle}
        up, down = link_bytes(nic, link, lengths, **ways, offset=offset, host_width=host_width)
        rate = link.bytes_per_cycle(nic.clock_khz)
        found |= {"link_up": up / rate, "link_down": down / rate}
    return {channel: cycles for channel, cycles in found.items() if cycles}


def link_bytes(
    nic: NicConfig,
    link: LinkConfig,
    lengths: Mapping[int, int],
    *,
    receive: bool = True,
    transmit: bool,
    recycle: bool = False,
    offset: int = 0,
    host_width: int | None = None,
) -> tuple[Fraction, Fraction]:
    """Bytes with overhead that a frame in each direction puts on the host link at best, upstream and downstream;
    parameters as of :func:`demands`. AXI writes tell bytes by strobes; AXI reads ask for whole beats of the
    link, from their first byte on."""
    beat = (host_width or nic.data_width) // 8
    start = offset % beat

    def asked(length: int) -> int:
        return -(-(start + length) // beat) * beat - start

    burst = min(nic.max_burst_bytes, nic.fetch_depth * ENTRY_BYTES)
    fetch_up = Fraction(link.read_bytes(burst) * ENTRY_BYTES, burst)
    fetch_down = Fraction(link.completion_bytes(burst) * ENTRY_BYTES, burst)
    up = down = Fraction(0)
    if receive:
        up += _mean(lengths, link.write_bytes) + Fraction(link.write_bytes(LINE_BYTES), ENTRIES_PER_LINE)
    if receive and not recycle:
        up += fetch_up
        down += fetch_down
    if transmit:
        up += _mean(lengths, lambda length: link.read_bytes(asked(length))) + fetch_up
        down += _mean(lengths, lambda length: link.completion_bytes(asked(length))) + fetch_down
    return up, down


def _mean(lengths: Mapping[int, int], amount: Callable[[int], int | Fraction]) -> Fraction:
    """An amount of a frame, over frames with these lengths."""
    total = sum((count * amount(length) for length, count in lengths.items()), Fraction(0))
    return total / Fraction(sum(lengths.values()))
