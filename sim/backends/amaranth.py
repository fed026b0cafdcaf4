# SPDX-License-Identifier: BSD-2-Clause
"""Backend on Amaranth's own simulator, in the caller's process: slow, and needs no compiler."""

import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from amaranth import ClockDomain, Module
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from sim.backends.base import (
    ACCESS_STORAGE,
    Access,
    Backend,
    Design,
    StorageError,
    check_range,
    check_until,
    resolve,
)
from sim.host.storage import Storage, StoragePlatform

PERIOD = 2e-9  #: of the simulated clock, as in bench.sv


class _SimulatorPlatform(StoragePlatform):
    """Storages keep their ports; a process serves each."""

    def primitive(self, storage: Storage, number: int) -> Module:
        return Module()


class _AccessLog:
    """Accesses of one storage, contiguous beats of consecutive cycles merged, as :file:`storage.cpp` does."""

    def __init__(self) -> None:
        self._entries: list[Access] = []
        self._last: dict[bool, tuple[int, int]] = {}  # by direction: place of the last entry, cycle of its last beat

    def add(self, cycle: int, address: int, length: int, is_write: bool) -> None:
        place, last_cycle = self._last.get(is_write, (0, -1))
        if last_cycle + 1 == cycle and is_write in self._last:
            entry = self._entries[place]
            if entry.address + entry.length == address:
                self._entries[place] = entry._replace(length=entry.length + length)
                self._last[is_write] = (place, cycle)
                return
        self._last[is_write] = (len(self._entries), cycle)
        self._entries.append(Access(cycle, address, length, is_write))

    def take(self) -> list[Access]:
        entries, self._entries = self._entries, []
        self._last = {}
        return entries


class AmaranthBackend(Backend):
    """A design in Amaranth's simulator; see :class:`sim.backends.base.Backend`.

    Parameters
    ----------
    waves : VCD file for the whole run, complete after :meth:`close`
    """

    def __init__(self, design: Design, *, waves: Path | None = None):
        platform = _SimulatorPlatform()
        m = Module()
        m.domains.sync = domain = ClockDomain()
        m.submodules.machine = design.build()
        self.simulator = Simulator(Fragment.get(m, platform))
        self.simulator.add_clock(PERIOD, domain="sync")
        self.storage = MappingProxyType({each.name: np.zeros(each.size, np.uint8) for each in platform.storages})
        self._cycle = 0
        self._ticked = False
        self._reset = False
        self._woken = False
        self._failure = ""
        self._log = _AccessLog()
        self._watches: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in self.storage}
        self._hits: set[int] = set()
        self._next_token = 0

        async def count(ctx: Any) -> None:
            async for _ in ctx.tick():
                self._ticked = True
                ctx.set(domain.rst, self._reset)

        self.simulator.add_process(count)
        for each in platform.storages:
            log = self._log if design.access_log and each.name == ACCESS_STORAGE else None
            self.simulator.add_process(self._server(each, log))
        self._waves = ExitStack()
        if waves is not None:
            self._waves.enter_context(self.simulator.write_vcd(str(waves)))
        self.simulator.advance()  # to the time before the first edge, where every process waits for it

    def _server(self, storage: Storage, log: _AccessLog | None) -> Callable[[Any], Awaitable[None]]:
        port = storage.port
        word = storage.width // 8
        array = self.storage[storage.name]
        watches = self._watches[storage.name]

        async def serve(ctx: Any) -> None:
            requests = ctx.tick().sample(
                port.read_enable,
                port.read_address,
                port.write_enable,
                port.write_address,
                port.write_data,
                port.write_strobe,
                *((port.write_exchange, port.write_expected) if storage.exchange else ()),
            )
            async for _, rst, read, read_address, write, write_address, data, strobe, *exchange in requests:
                if read and self._locate(storage, read_address, "read"):
                    value = int.from_bytes(array[read_address : read_address + word].tobytes(), "little")
                    ctx.set(port.read_data, value)
                    if log is not None:
                        log.add(self._cycle + 1, read_address, word, False)
                if rst:
                    ctx.set(port.read_data, 0)
                if write and any(exchange[:1]):
                    start = write_address + ((strobe & -strobe).bit_length() - 1) // 8 * 8
                    write = bool(strobe) and array[start : start + 8].tobytes() == exchange[1].to_bytes(8, "little")
                    ctx.set(port.write_exchanged, write and not rst)
                elif rst and exchange:
                    ctx.set(port.write_exchanged, 0)
                if write and self._locate(storage, write_address, "write") and strobe:
                    lanes = [lane for lane in range(word) if strobe >> lane & 1]
                    for lane in lanes:
                        array[write_address + lane] = data >> 8 * lane & 0xFF
                    if log is not None:
                        log.add(self._cycle + 1, write_address + lanes[0], lanes[-1] - lanes[0] + 1, True)
                    for token, (start, stop) in watches.items():
                        if any(start <= write_address + lane < stop for lane in lanes):
                            self._hits.add(token)
                            self._woken = True

        return serve

    def _locate(self, storage: Storage, address: int, kind: str) -> bool:
        word = storage.width // 8
        if address % word == 0 and address < storage.size:
            return True
        self._failure = self._failure or (
            f"Storage '{storage.name}' of {storage.size} bytes: {kind} of {word} bytes at address {address:#x} "
            f"in cycle {self._cycle + 1}"
        )
        self._woken = True
        return False

    def _take_edge(self) -> None:
        self._ticked = False
        while not self._ticked:
            self.simulator.advance()
        self._cycle += 1

    @property
    def cycle(self) -> int:
        return self._cycle

    def advance(self, until_cycle: int) -> int:
        check_until(self._cycle, until_cycle)
        self._woken = False
        while self._cycle < until_cycle and not self._woken:
            self._take_edge()
        if self._failure:
            raise StorageError(self._failure)
        return self._cycle

    def watch(self, storage: str, start: int, stop: int) -> int:
        check_range(len(self.storage[storage]), storage, start, stop)
        token = self._next_token
        self._next_token += 1
        self._watches[storage][token] = (start, stop)
        return token

    def unwatch(self, token: int) -> None:
        self._hits.discard(token)
        for watches in self._watches.values():
            if token in watches:
                del watches[token]
                return
        raise ValueError(f"There is no watch {token!r}")

    def hits(self) -> list[int]:
        tokens = sorted(self._hits)
        self._hits.clear()
        return tokens

    def accesses(self) -> list[Access]:
        return self._log.take()

    def reset(self) -> None:
        self._reset = True
        self._take_edge()
        self._reset = False
        self._take_edge()
        for array in self.storage.values():
            array.fill(0)
        for watches in self._watches.values():
            watches.clear()
        self._hits.clear()
        self._log.take()
        self._next_token = 0
        self._failure = ""
        self._cycle = 0

    def close(self) -> None:
        """Complete the waves."""
        self._waves.close()


def run(design: Design, job: str, argument: Any, waves: Path | None) -> Any:
    """See :func:`sim.backends.base.launch`."""
    function = resolve(job)
    if waves is not None and waves.suffix != ".vcd":
        raise ValueError(f"Amaranth's simulator writes waves to a .vcd file, not {str(waves)!r}")
    backend = AmaranthBackend(design, waves=waves)
    try:
        result = function(backend, design, argument)
    finally:
        backend.close()
    return json.loads(json.dumps(result))
