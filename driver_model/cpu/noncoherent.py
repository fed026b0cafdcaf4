# SPDX-License-Identifier: BSD-2-Clause
"""A core of a machine whose devices do not see into the CPU caches."""

from __future__ import annotations

from collections.abc import Callable

from driver_model.cpu.cache import LINE, CacheImage
from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile
from driver_model.platform import Platform


class CoreCache:
    """Cache maintenance as one core does it: by address, charged for each line of 64 bytes, present or not.

    ``dma.cache_clean_line`` for a clean, ``dma.cache_invalidate_line`` for an invalidate or a flush.

    Parameters
    ----------
    core : the core
    image : the caches' contents

    Attributes
    ----------
    discards : what a device is to write is invalidated when it is handed over, as arm64 did before commit c50f11c6196f
        (2022): what memory held before the CPU's last stores could come to light. Since then it is cleaned.
    """

    def __init__(self, core: Core, image: CacheImage) -> None:
        self.image = image
        self.discards = False
        self._core = core
        self._op_clean = core.op("dma.cache_clean_line")
        self._op_invalidate = core.op("dma.cache_invalidate_line")

    def clean(self, address: int, size: int) -> None:
        """See :meth:`driver_model.cpu.cache.CacheImage.clean`."""
        self._core.spend(self._op_clean, self.image.clean(address, size))

    def invalidate(self, address: int, size: int) -> None:
        """See :meth:`driver_model.cpu.cache.CacheImage.invalidate`."""
        self._core.spend(self._op_invalidate, self.image.invalidate(address, size))

    def hand_over(self, address: int, size: int, written: bool) -> None:
        """A range goes to the device, which writes it and does not read it, or may do both."""
        if written and self.discards:
            self._core.spend(self._op_invalidate, self.image.discard(address, size))
        else:
            self.clean(address, size)

    def make_uncached(self, address: int, size: int) -> None:
        """Flush a range and map it uncached."""
        self._core.spend(self._op_invalidate, self.image.flush(address, size))
        self.image.set_uncached(address, size)

    def make_cached(self, address: int, size: int) -> None:
        """Map a range as ordinary memory again."""
        self.image.set_cached(address, size)


class NonCoherentCore(Core):
    """A :class:`driver_model.cpu.core.Core` whose loads and stores go through the caches' image.

    A load from uncached memory waits for memory: it charges ``cpu.uncached`` for each line touched, beside
    ``cpu.load``. Stores to it are gathered in the write buffer (arm64 maps it Normal non-cacheable) and charge
    ``cpu.store`` alone. What a device wrote is in no cache: its first touch is a miss.

    Parameters
    ----------
    image : shared by all cores
    platform, index, profile, alone : see :class:`driver_model.cpu.core.Core`
    """

    def __init__(
        self, platform: Platform, index: int, profile: Profile, image: CacheImage, *, alone: bool = True
    ) -> None:
        super().__init__(platform, index, profile, alone=alone, ddio=False)
        self.cache = CoreCache(self, image)
        self._image = image
        self._uncached = self.op("cpu.uncached")
        self._read = image.read
        self._write = image.write

    def load(self, address: int, length: int) -> bytes:
        self._wait_for_memory(address, length)
        return super().load(address, length)

    def load_owned(self, address: int, length: int) -> bytes:
        self._wait_for_memory(address, length)
        return super().load_owned(address, length)

    def load_latched(self, address: int, length: int, ready: Callable[[bytes], object]) -> bytes:
        self._wait_for_memory(address, length)
        return super().load_latched(address, length, ready)

    def copy(self, target: int, source: int, length: int) -> None:
        self._wait_for_memory(source, length)
        super().copy(target, source, length)

    def copy_owned(self, target: int, source: int, length: int) -> None:
        self._wait_for_memory(source, length)
        super().copy_owned(target, source, length)

    def _wait_for_memory(self, address: int, length: int) -> None:
        if self._image.uncached(address):
            self.spend(self._uncached, ((address & LINE - 1) + length + LINE - 1) // LINE)
