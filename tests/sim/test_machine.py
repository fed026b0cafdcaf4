# SPDX-License-Identifier: BSD-2-Clause
"""The machine's parts together, around a small device, in both backends."""

from typing import Any

import pytest

from hw.config import NicConfig
from sim.backends.base import BACKENDS, Backend, launch
from sim.host.link_config import LINK_PRESETS
from sim.host.mailbox import Interrupt, MailboxClient, RegisterRead, WriteError
from sim.host.stall import PLACES
from sim.host.wire_player import PlayerClient
from sim.host.wire_recorder import RecorderClient
from tests.sim.loop_device import LoopMachineConfig

HERE = "tests.sim.test_machine"
TARGET = 0x3000


def exercise(backend: Backend, config: LoopMachineConfig, rounds: int, rate: int = 100) -> list[Any]:
    """Everything that crosses the machine, with the cycle of each effect that software sees."""
    mailbox, player, recorder = MailboxClient(backend), PlayerClient(backend), RecorderClient(backend)
    if config.stalls:
        mailbox.set_stalls(rate, 1)
    player.play([(40 + 9 * number, bytes([number]) * (60 + number), 0, False) for number in range(20)])
    landed = backend.watch("memory", TARGET + 56, TARGET + 64)
    seen: list[Any] = []
    for _ in range(rounds):
        mailbox.write_register(0, TARGET)
        mailbox.write_register(16, 1)
        mailbox.read_register(8)
        missing = {"landed", Interrupt, WriteError, RegisterRead}
        limit = backend.cycle + 3000
        while missing:
            assert backend.advance(limit) < limit, f"{missing} did not come in 3000 cycles"
            hits = backend.hits()
            if landed in hits:
                missing.remove("landed")
                memory = backend.storage["memory"][TARGET : TARGET + 64]
                seen.append(["landed", backend.cycle, memory.tolist()])
            for event in mailbox.events() if mailbox.token in hits else []:
                missing.remove(type(event))
                seen.append([type(event).__name__, *event])
    backend.advance(backend.cycle + 500)
    frames = recorder.recorded()
    assert [frame.data for frame in frames] == [bytes([number]) * (60 + number) for number in range(20)]
    return [seen, [[frame.first, frame.last] for frame in frames], backend.accesses()]


@pytest.mark.parametrize(
    ("link", "host_width", "stalls"), [("gen3-x8", 64, False), ("on-chip", 512, False), ("gen3-x8", 128, True)]
)
def test_both_backends_agree_on_every_cycle(link: str, host_width: int, stalls: bool) -> None:
    config = LoopMachineConfig(
        nic=NicConfig(queues=1),
        link=LINK_PRESETS[link],
        host_width=host_width,
        memory_size=1 << 20,
        stalls=stalls,
        access_log=True,
    )
    seen, frames, accesses = launch("verilator", config, f"{HERE}:exercise", 3)
    assert launch("amaranth", config, f"{HERE}:exercise", 3) == [seen, frames, accesses]
    order = [entry[0] for entry in seen]
    assert order.count("landed") == 3
    for index, entry in enumerate(seen):
        if entry[0] == "Interrupt":
            assert "landed" in order[max(0, index - 2) : index]
        if entry[0] == "RegisterRead":
            assert entry[2] == 8
            assert entry[4] is False
        if entry[0] == "WriteError":
            assert entry[2] == 16
    memory = [entry[2] for entry in seen if entry[0] == "landed"]
    assert memory == [[octet for beat in range(8) for octet in (beat, count, 0, 0, 0, 0, 0, 0)] for count in (1, 2, 3)]
    written = [octet for _, address, length, write in accesses if write for octet in range(address, address + length)]
    assert written == 3 * list(range(TARGET, TARGET + 64))


def rates(backend: Backend, config: LoopMachineConfig, chosen: list[int]) -> list[Any]:
    """The same case under stalls of one rate after another."""
    results = []
    for rate in chosen:
        results.append(exercise(backend, config, 1, rate))
        backend.reset()
    return results


def test_stalls_take_time_only_where_they_are_set() -> None:
    size = {"memory_size": 1 << 20, "nic": NicConfig(queues=1)}
    (plain,) = launch("amaranth", LoopMachineConfig(**size), f"{HERE}:rates", [0])
    off, on, again = launch("amaranth", LoopMachineConfig(**size, stalls=True), f"{HERE}:rates", [0, 100, 100])
    setting = PLACES  # cycles in which the mailbox sets one place after the other, before it does anything else
    assert [[kind, cycle - setting, *rest] for kind, cycle, *rest in off[0]] == plain[0]
    assert off[1] == plain[1]
    assert on == again
    assert on[0] != off[0]
    assert on[1] != off[1]


def cases(backend: Backend, config: LoopMachineConfig, count: int) -> list[Any]:
    """The same case several times in one process, with a reset amid traffic between."""
    results = []
    for _ in range(count):
        results.append(exercise(backend, config, 1))
        PlayerClient(backend).play([(0, bytes(200), 0, False)] * 3)
        backend.advance(backend.cycle + 30)
        backend.reset()
    return results


@pytest.mark.parametrize("backend", BACKENDS)
def test_cases_in_one_process_do_not_know_of_each_other(backend: str) -> None:
    config = LoopMachineConfig(memory_size=1 << 20, access_log=True, nic=NicConfig(queues=1))
    first, *others = launch(backend, config, f"{HERE}:cases", 3)
    assert others == [first, first]
