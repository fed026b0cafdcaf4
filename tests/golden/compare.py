# SPDX-License-Identifier: BSD-2-Clause
"""Random worlds on the hardware and in the golden model, one against the other."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sim.backends.base import Backend
from tests.golden.coverage import Coverage
from tests.golden.generate import MEMORY_BYTES, World, generate
from tests.golden.hardware import Hardware, Row, Step, steps
from tests.golden.machine import GoldenDesign, capabilities
from tests.golden.model import Access, AddressType, Iommu, Record, Request, Result
from tests.golden.tables import PAGE

OKAY, SLVERR = 0, 2
DEBUG_SHARE = 0.1  #: of requests that the debug registers make instead of the device
RESET_SHARE = 0.3  #: of worlds that begin with a reset instead of invalidations


class Asked(NamedTuple):
    """A request, who asks it, and the row of the script with its outcome."""

    request: Request
    debug: bool
    row: int


class Comparison:
    """Worlds of a configuration on one machine.

    Parameters
    ----------
    backend, design : the machine
    requests : of each world; each is made twice, so that the second finds caches warm
    """

    def __init__(self, backend: Backend, design: GoldenDesign, *, requests: int):
        self.hardware = Hardware(backend)
        self.capabilities = capabilities(design.config)
        self.requests = requests
        self.coverage = Coverage()
        self.translations = 0
        self.cycles = 0  #: before the last reset
        self.hardware.configure()

    def world(self, seed: int) -> None:
        """Make a seed's world and compare all of its requests; ``AssertionError`` tells the first difference."""
        rng = random.Random(seed)
        world = generate(seed, self.capabilities, requests=self.requests, execute=True)
        hardware = self.hardware
        if rng.random() < RESET_SHARE:
            self.cycles += hardware.backend.cycle
            hardware.reset()
        else:
            hardware.forget()
        image = np.frombuffer(bytes(world.memory.data), np.uint8)
        hardware.tables[:MEMORY_BYTES] = image
        hardware.set_directory(world.mode, world.root)
        for turn in ("cold", "warm"):
            self._turn(world, rng, f"seed {seed}, {turn}")
            if not world.ordered:
                rng.shuffle(world.requests)

    def _turn(self, world: World, rng: random.Random, where: str) -> None:
        asked, script = _script(world, rng)
        model = Iommu(world.memory, world.mode, world.root, world.capabilities)
        expected = [model.translate(each.request) for each in asked]
        self.hardware.play(script)
        for each, result in zip(asked, expected, strict=True):
            self.coverage.add(result)
            difference = self._difference(each, result)
            assert not difference, f"{where}: {difference}\n{each}\n{result}"
        self._compare_records(expected, where)
        difference = self._memory_difference(world, asked, expected)
        assert not difference, f"{where}: {difference}"
        self.translations += len(asked)

    def _difference(self, asked: Asked, result: Result) -> str:
        """What the machine answered instead of the result; empty if nothing."""
        answer = self.hardware.row("results", asked.row)
        if asked.debug:
            return _debug_difference(asked.request, answer.value, result)
        wanted = OKAY if result.record is None else SLVERR
        if asked.request.access is Access.WRITE:
            answer = self.hardware.row("written", asked.row)
            seen = self.hardware.row("seen", asked.row)
            if seen.done != (result.record is None):
                return f"memory saw {seen.value:#x}" if seen.done else "memory saw nothing"
            address = seen.value
        else:
            address = answer.value
            if asked.request.address_type is AddressType.TRANSLATION_REQUEST and result.record is None:
                return _completion_difference(asked.request, answer, result)
            if asked.request.address_type is AddressType.PREFETCH and answer.value:
                return f"answered {answer}"
        if not answer.done or answer.response != wanted:
            return f"answered {answer}"
        if result.address is not None and address != result.address:
            return f"went to {address:#x}, not {result.address:#x}"
        return ""

    def _memory_difference(self, world: World, asked: list[Asked], expected: list[Result]) -> str:
        """The first entry whose A and D bits differ, and who read it; empty if there is none."""
        golden = np.frombuffer(bytes(world.memory.data), np.uint64)
        wrong = np.flatnonzero(self.hardware.tables[:MEMORY_BYTES].view(np.uint64) != golden)
        if not wrong.size:
            return ""
        place = int(wrong[0])
        readers = [
            each for each, result in zip(asked, expected) if any(fetch.address == place * 8 for fetch in result.fetches)
        ]
        found = self.hardware.tables.view(np.uint64)[place]
        return f"entry {place * 8:#x} is {found:#x}, not {golden[place]:#x}; read by {readers[:3]}"

    def _compare_records(self, expected: list[Result], where: str) -> None:
        wanted = Counter(result.record for result in expected if result.record and result.reported)
        found: Counter[Record] = self.hardware.records(wanted.total())
        missing, extra = wanted - found, found - wanted
        assert (missing, extra) == (Counter(), Counter()), (
            f"{where}: fault records differ\nmissing {list(missing.items())[:3]}\ninstead {list(extra.items())[:3]}"
        )


def _script(world: World, rng: random.Random) -> tuple[list[Asked], list[Step]]:
    asked, script = [], []
    for request in world.requests:
        debug = request.access is Access.EXECUTE or rng.random() < DEBUG_SHARE
        if debug:  # these registers ask untranslated requests, page by page
            request = replace(request, iova=request.iova & -PAGE, address_type=AddressType.UNTRANSLATED)
        script += steps(request, alone=world.ordered, debug=debug)
        asked.append(Asked(request, debug, len(script) - 1))
    return asked, script


def _debug_difference(request: Request, response: int, result: Result) -> str:
    """The same for tr_response, whose page may be a part of the table's."""
    if response & 1 != (result.record is not None):
        return f"tr_response is {response:#x}"
    if result.address is None:
        return ""
    ppn, size = response >> 10 & (1 << 44) - 1, PAGE
    if response >> 9 & 1:
        zero = ~ppn & ppn + 1  # the lowest bit that is 0
        size, ppn = zero * 2 * PAGE, ppn & -(zero * 2)
    if result.size is not None and size > result.size:
        return f"tr_response is {response:#x}, for {size:#x} bytes, not {result.size:#x}"
    address = ppn * PAGE | request.iova & (size - 1)
    return "" if address == result.address else f"tr_response is {response:#x}: {address:#x}, not {result.address:#x}"


def _completion_difference(request: Request, answer: Row, result: Result) -> str:
    """The same for a translation completion, whose range may be a part of the page."""
    word = answer.value
    if not answer.done or answer.response != OKAY:
        return f"answered {answer}"
    if result.address is None or not word & 1:
        return f"told {word:#x}" if result.address is not None or word & 3 else ""
    if word & ~-PAGE & ~(1 << 11) != 1 | result.writable << 1:
        return f"told {word:#x}, not {1 | result.writable << 1:#b}"
    page, size = word // PAGE, PAGE
    if word >> 11 & 1:
        zero = ~page & page + 1  # the lowest bit that is 0
        size, page = zero * 2 * PAGE, page & -(zero * 2)
    if result.size is not None and size > result.size:
        return f"told {word:#x}, for {size:#x} bytes, not {result.size:#x}"
    address = page * PAGE | request.iova & (size - 1)
    return "" if address == result.address else f"told {word:#x}: {address:#x}, not {result.address:#x}"


def job(backend: Backend, design: GoldenDesign, argument: Any) -> dict[str, Any]:
    """Compare worlds ``argument["seeds"]`` (first, last + 1) of ``argument["requests"]`` requests; for
    :func:`sim.backends.base.launch`."""
    comparison = Comparison(backend, design, requests=argument["requests"])
    report: Callable[[str], None] = print if argument.get("progress") else lambda line: None
    begin = time.monotonic()
    for number, seed in enumerate(range(*argument["seeds"]), 1):
        comparison.world(seed)
        if number % 50 == 0:
            report(f"{comparison.translations} translations in {time.monotonic() - begin:.0f} s")
    return {
        "translations": comparison.translations,
        "cycles": comparison.cycles + backend.cycle,
        "coverage": comparison.coverage.table(),
        "causes": sorted(cause for cause in comparison.coverage.causes() if cause is not None),
    }
