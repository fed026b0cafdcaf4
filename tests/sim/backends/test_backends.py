# SPDX-License-Identifier: BSD-2-Clause
"""Both backends keep the contract of :mod:`sim.backends.base`, with the same cycle numbers."""

from typing import Any

import pytest

from sim.backends.base import BACKENDS, Backend, JobError, StorageError, launch
from tests.sim.backends.designs import SIZE, CopierDesign, CounterDesign, StrayDesign

HERE = "tests.sim.backends.test_backends"


def latency(backend: Backend, design: CopierDesign, argument: None) -> list[Any]:
    """When a byte that software writes after an edge reaches the copy, and that software can have it back."""
    word = design.width // 8
    backend.advance(10)  # edges 1..10 read words 0..9; edge 11 reads word 10
    backend.storage["memory"][10 * word] = 41
    backend.storage["memory"][9 * word] = 99  # too late
    token = backend.watch("copy", 10 * word, 10 * word + 1)
    cycle = backend.advance(1000)
    copy = backend.storage["copy"]
    return [cycle, backend.hits() == [token], backend.hits(), int(copy[9 * word]), int(copy[10 * word])]


@pytest.mark.parametrize("width", [64, 512])
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_is_seen_from_the_next_edge_on(backend: str, width: int) -> None:
    assert launch(backend, CopierDesign(width), f"{HERE}:latency") == [12, True, [], 1, 42]


def counted(backend: Backend, design: CounterDesign, argument: None) -> list[Any]:
    """A store of software after each edge of a lap: before the read, twice between read and exchange, and after it."""
    word = backend.storage["memory"][8:16]
    values = []
    for lap in range(4):
        backend.advance(4 * lap + lap)
        word[0] = 100 + 10 * lap
        backend.advance(4 * lap + 4)
        values.append(int(word[0]))
    backend.advance(20)
    return [values, backend.storage["done"][:4].tolist(), backend.storage["memory"][:8].tolist()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exchange_never_overwrites_what_software_stored_since_the_read(backend: str) -> None:
    values, done, neighbor = launch(backend, CounterDesign(), f"{HERE}:counted")
    assert values == [101, 110, 120, 130]
    assert [each - 1 for each in done] == [1, 0, 0, 1]
    assert neighbor == [0] * 8


def watches(backend: Backend, design: CopierDesign, argument: None) -> list[Any]:
    """Cycles and hits of three watches over words of 8 bytes; the copy writes byte n at edge n // 8 + 2."""
    first = backend.watch("copy", 15, 17)
    second = backend.watch("copy", 16, 24)
    other = backend.watch("copy", 40, 41)
    seen = []
    for _ in range(3):
        cycle = backend.advance(100)
        seen.append([cycle, backend.hits()])
    backend.unwatch(other)
    backend.unwatch(first)
    seen.append([backend.advance(600), backend.hits()])
    backend.unwatch(second)
    seen.append([backend.advance(1200), backend.hits()])
    return [[first, second, other], seen]


@pytest.mark.parametrize("backend", BACKENDS)
def test_watch_stops_at_the_edge_that_writes(backend: str) -> None:
    (first, second, other), seen = launch(backend, CopierDesign(), f"{HERE}:watches")
    lap = SIZE // 8
    assert seen == [[3, [first]], [4, [first, second]], [7, [other]], [4 + lap, [second]], [1200, []]]


def again(backend: Backend, design: CopierDesign, argument: None) -> list[Any]:
    """The same steps before and after a reset, which falls into the middle of everything."""
    runs = []
    for _ in range(3):
        token = backend.watch("copy", 400, 408)
        backend.storage["memory"][400:408] = 7
        cycle = backend.advance(300)
        runs.append([token, cycle, backend.hits(), backend.storage["copy"][:416].tolist(), len(backend.accesses())])
        backend.advance(307)
        backend.reset()
        runs.append([backend.cycle, backend.hits(), int(backend.storage["copy"].sum()), backend.accesses()])
    return runs


@pytest.mark.parametrize("backend", BACKENDS)
def test_reset_is_power_on(backend: str) -> None:
    runs = launch(backend, CopierDesign(access_log=True), f"{HERE}:again")
    assert runs[0][:3] == [0, 52, [0]]
    assert runs[1] == [0, [], 0, []]
    assert runs[2:4] == runs[0:2]
    assert runs[4:6] == runs[0:2]


def access_log(backend: Backend, design: CopierDesign, argument: None) -> list[Any]:
    """The log after 600 edges: reads run through memory, wrap at its end, and are cut where the log is taken."""
    backend.advance(600)
    first = backend.accesses()
    backend.advance(610)
    return [first, backend.accesses(), backend.accesses()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_accesses_merge_contiguous_beats(backend: str) -> None:
    lap = SIZE // 8
    expected = [[1, 0, SIZE, False], [lap + 1, 0, 8 * (600 - lap), False]], [[601, 8 * (600 - lap), 80, False]], []
    assert launch(backend, CopierDesign(access_log=True), f"{HERE}:access_log") == list(expected)
    assert launch(backend, CopierDesign(), f"{HERE}:access_log") == [[], [], []]


def stray(backend: Backend, design: StrayDesign, argument: None) -> list[Any]:
    """The message, and that the machine works again after reset."""
    messages = []
    for _ in range(2):
        with pytest.raises(StorageError) as error:
            backend.advance(100)
        messages.append([str(error.value), backend.cycle])
        backend.reset()
    return [messages, backend.advance(5)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_access_beyond_a_storage_ends_the_run(backend: str) -> None:
    message = "Storage 'memory' of 64 bytes: write of 8 bytes at address 0x40 in cycle 10"
    assert launch(backend, StrayDesign(), f"{HERE}:stray") == [[[message, 10]] * 2, 5]


def misuse(backend: Backend, design: CopierDesign, argument: None) -> list[str]:
    """Messages of calls that are refused."""
    backend.advance(5)
    messages = []
    for call in (
        lambda: backend.advance(4),
        lambda: backend.watch("copy", 8, 8),
        lambda: backend.watch("copy", 0, SIZE + 1),
        lambda: backend.unwatch(3),
    ):
        try:
            call()
        except ValueError as error:
            messages.append(str(error))
    return messages


@pytest.mark.parametrize("backend", BACKENDS)
def test_misuse_is_refused(backend: str) -> None:
    assert launch(backend, CopierDesign(), f"{HERE}:misuse") == [
        "Cannot advance to cycle 4: cycle 5 is reached",
        "Watched range must lie in 0..4096 of storage 'copy', not 8..8",
        "Watched range must lie in 0..4096 of storage 'copy', not 0..4097",
        "There is no watch 3",
    ]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="Backend must be one of verilator, amaranth, not 'icarus'"):
        launch("icarus", CopierDesign(), f"{HERE}:misuse")
    for backend in BACKENDS:
        with pytest.raises(ValueError, match="Job must be given as 'package.module:function', not 'misuse'"):
            launch(backend, CopierDesign(), "misuse")
        with pytest.raises(ValueError, match=f"Module '{HERE}' has no function 'nothing'"):
            launch(backend, CopierDesign(), f"{HERE}:nothing")


def test_errors_come_back() -> None:
    job = "tests.sim.backends.designs:fail"
    with pytest.raises(RuntimeError, match="gave up in cycle 7"):
        launch("amaranth", CopierDesign(), job)
    with pytest.raises(JobError, match=r"(?s)designs:fail failed in the simulator:.*RuntimeError: gave up in cycle 7"):
        launch("verilator", CopierDesign(), job)


def test_waves(tmp_path: Any) -> None:
    for backend in BACKENDS:
        file = tmp_path / f"{backend}.vcd"
        assert launch(backend, CopierDesign(), "tests.sim.backends.designs:run_until", 50, waves=file) == 50
        assert "read_address" in file.read_text()
        with pytest.raises(ValueError, match="file, not '.*waves.txt'"):
            launch(backend, CopierDesign(), "tests.sim.backends.designs:echo", waves=tmp_path / "waves.txt")
