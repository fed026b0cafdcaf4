# SPDX-License-Identifier: BSD-2-Clause
"""A small machine for tests of cores: round costs, and software run to its end."""

from collections.abc import Callable, Mapping
from typing import Any

from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile
from tests.driver_model.fake_platform import FakePlatform

NS = 1000  #: picoseconds
US = 1000 * NS
MS = 1000 * US

#: Nanoseconds of each operation that a core itself uses, and of some for the tests.
COSTS = {
    "cpu.load": 4,
    "cpu.store": 1,
    "llc.hit": 14,
    "cache.miss": 32,
    "line.transfer": 30,
    "spin.lock": 8,
    "spin.unlock": 2,
    "irq.entry": 100,
    "irq.exit": 50,
    "softirq.entry": 20,
    "context.switch": 500,
    "task.wake": 200,
    "mmio.write": 25,
    "mmio.read": 5,
    "work": 1000,
    "poll": 7,
}


def unit_profile(changes: Mapping[str, int] | None = None) -> Profile:
    """Costs of :data:`COSTS`, some changed."""
    entries = [
        f'[[assumption]]\nname = "{name}"\nns = {ns}\nreason = "a round number"\n'
        for name, ns in (COSTS | dict(changes or {})).items()
    ]
    head = 'name = "unit"\nmachine = "tests"\nfrequency_khz = 1_000_000\n'
    return Profile(head + "".join(entries))


#: Nothing costs anything but what the test spends.
FREE = {name: 0 for name in COSTS if name not in ("work", "poll")}


def run(platform: FakePlatform, core: Core, function: Callable[[], Any], *, limit: int = 100 * MS) -> Any:
    """Run a process to its end; its result. Fails if it is not done by ``limit``."""

    def main() -> Any:
        result = function()
        platform.stop()
        return result

    task = core.spawn("main", main)
    assert platform.run(platform.now + limit), f"process not done within {limit / US} us"
    return task.result
