# SPDX-License-Identifier: BSD-2-Clause
"""What is synthesized: cores, their parameters, and for which chip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hw.config import CacheConfig, IommuConfig, NicConfig, preset
from synth.harness import Cores


@dataclass(frozen=True)
class Design:
    """One row of the table.

    Attributes
    ----------
    title : for readers
    cores : the configuration of each instance
    links : instance and port prefix whose channels lead to another's
    clock_mhz : the clock to close at
    chip : ``ecp5`` or ``xilinx``: whose cells
    timed : placed and routed too, on ``ecp5``; otherwise area after synthesis
    """

    title: str
    cores: Mapping[str, NicConfig | IommuConfig]
    clock_mhz: float
    links: Sequence[tuple[tuple[str, str], tuple[str, str]]] = ()
    chip: str = "ecp5"
    timed: bool = True

    def wires(self, cores: Cores) -> list[tuple[str, str]]:
        """Of each pair of linked ports, the wire of the output and that of the input."""
        wires = []
        for (one, one_prefix), (other, other_prefix) in self.links:
            others = {port.name: port for port in cores[other][1]}
            for port in cores[one][1]:
                if port.name.startswith(f"{one_prefix}_"):
                    match = others[other_prefix + port.name.removeprefix(one_prefix)]
                    wires.append((port.wire, match.wire) if port.output else (match.wire, port.wire))
        return wires


#: An IOMMU that leaves room on an 85F: caches of a few entries, Sv39 only, no ATS, two walks.
SMALL_IOMMU = IommuConfig(
    first_levels=3,
    second_levels=3,
    physical_bits=40,
    ats=False,
    tlb_4k=CacheConfig(16, 2),
    tlb_64k=CacheConfig(1, 1),
    tlb_2m=CacheConfig(4, 1),
    tlb_1g=CacheConfig(1, 1),
    walk_cache_1=CacheConfig(4, 1),
    walk_cache_2=CacheConfig(1, 1),
    walk_cache_3=CacheConfig(1, 1),
    contexts=2,
    walks=2,
    writes=4,
    write_beats=32,
    reads=4,
    outstanding=16,
    counters=0,
    vectors=1,
)

DESIGNS: Mapping[str, Design] = MappingProxyType(
    {
        "nic-10g": Design("NIC, preset 10g", {"nic": preset("10g")}, 156.25),
        "nic-iommu-10g": Design(
            "NIC, preset 10g, behind a small IOMMU",
            {"nic": preset("10g"), "iommu": SMALL_IOMMU},
            156.25,
            links=((("nic", "m_axi"), ("iommu", "s_axi")),),
            timed=False,
        ),
        "nic-100g": Design("NIC, preset 100g", {"nic": preset("100g")}, 250.0, chip="xilinx", timed=False),
    }
)
