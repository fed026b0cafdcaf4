# SPDX-License-Identifier: BSD-2-Clause
"""What a run asks of those who take its frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from driver_model.drivers.host import Host
from driver_model.drivers.nic import NicDriver

Done = Callable[[int, int], None]  #: told the core's time and the frame's length when a frame has been dealt with


class FrameConsumer(ABC):
    """A consumer of one run.

    Attributes
    ----------
    sends : frames leave again
    tells : ``done`` is told of each frame; otherwise it is done with when it passes
    """

    name: ClassVar[str]
    sends: ClassVar[bool] = False
    tells: ClassVar[bool] = False

    def __init__(self, host: Host, done: Done) -> None:
        self.host = host
        self.done = done

    @abstractmethod
    def take(self, queue: Any, fragments: Sequence[tuple[Any, int, int]], metadata: Any) -> None:
        """A frame passes: the driver's consumer."""

    def expected(self, frame: bytes) -> bytes | None:
        """What of a frame leaves again, where it :attr:`sends`; None: nothing."""
        return frame

    @abstractmethod
    def open(self, driver: NicDriver) -> None:
        """In a process, with the device open: begin."""

    @abstractmethod
    def close(self) -> None:
        """In a process, when no more frames come: free what is kept."""

    @property
    def busy(self) -> int:
        """Frames that it still has."""
        return 0

    @property
    def dropped(self) -> Counter[str]:
        """Frames that it dropped, by reason."""
        return Counter()

    @property
    def statistics(self) -> dict[str, int]:
        """Counters, by name."""
        return {}
