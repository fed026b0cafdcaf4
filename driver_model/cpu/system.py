# SPDX-License-Identifier: BSD-2-Clause
"""The cores of one machine."""

from driver_model.cpu.cache import CacheImage
from driver_model.cpu.core import Core
from driver_model.cpu.noncoherent import NonCoherentCore
from driver_model.cpu.profile import Profile
from driver_model.events import EventLog
from driver_model.platform import Platform


class System:
    """``cores`` equal cores on a machine, and what they did together.

    Parameters
    ----------
    platform : the machine
    profile : costs of operations, and whether devices see into the caches
    cores : how many, 1..64
    ddio : see :class:`driver_model.cpu.core.Core`; None for the profile's
    log : event log of all cores; None leaves it off
    cache_seed : of what the caches do by themselves, on a machine that is not coherent

    Attributes
    ----------
    peek : ``peek(address, length)`` are bytes as software would see them now, at no cost
    """

    def __init__(
        self,
        platform: Platform,
        profile: Profile,
        cores: int = 1,
        *,
        ddio: bool | None = None,
        log: EventLog | None = None,
        cache_seed: int = 0,
    ) -> None:
        if not isinstance(cores, int) or isinstance(cores, bool):
            raise TypeError(f"cores must be an integer, not {cores!r}")
        if not 1 <= cores <= 64:
            raise ValueError(f"cores must be in 1..64, not {cores!r}")
        self.platform = platform
        self.profile = profile
        alone = cores == 1
        ddio = profile.ddio if ddio is None else ddio
        self.peek = platform.read
        if profile.coherent:
            self.cores = [Core(platform, index, profile, alone=alone, ddio=ddio) for index in range(cores)]
        else:
            image = CacheImage(platform, cache_seed)
            self.peek = image.peek
            self.cores = [NonCoherentCore(platform, index, profile, image, alone=alone) for index in range(cores)]
        for core in self.cores:
            core.log = log

    def shutdown(self) -> None:
        """End all software, after the run, so that what it holds is freed."""
        for core in self.cores:
            core.shutdown()

    def operations(self) -> dict[str, tuple[int, int]]:
        """Count and picoseconds of each operation that happened, over all cores, by name."""
        total: dict[str, tuple[int, int]] = {}
        for core in self.cores:
            for operation in core.operations:
                if operation.count:
                    count, spent = total.get(operation.name, (0, 0))
                    total[operation.name] = (count + operation.count, spent + operation.count * operation.ps)
        return dict(sorted(total.items()))
