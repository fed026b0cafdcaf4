# SPDX-License-Identifier: BSD-2-Clause
"""How the driver's queue pairs are set up, and who takes the frames that pass."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from driver_model.drivers.metadata import RxMetadata
from driver_model.drivers.ring import check_entries
from driver_model.drivers.strategies.base import NO_OPTIONS, BufferStrategy, PooledStrategy, PoolOptions
from driver_model.net.xdp import XdpProgram
from hw.abi.pools import MAX_POOL_BUFFERS
from hw.abi.registers import register_map

if TYPE_CHECKING:
    from driver_model.drivers.queue import QueuePair

COMPLETION_CYCLES: int = register_map(1).port["timeouts"].fields["completion"].reset  #: after a reset

Fragment = tuple[Any, int, int]  #: buffer, offset of the bytes in it, their number
Consumer = Callable[["QueuePair", Sequence[Fragment], RxMetadata], None]


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """How a queue pair is set up.

    Attributes
    ----------
    strategy : class of its buffer strategy
    program : XDP program
    consumer : takes the frames that pass, ``consumer(queue, fragments, metadata)``, and gives each buffer back by
        :meth:`QueuePair.release` or sends it by :meth:`QueuePair.xmit`; None if none can pass. Headers that were split
        off are ``metadata.header``, in memory that stays the driver's.
    rx_entries, tx_entries : ring sizes
    moderation_cycles, moderation_count : ``rx-usecs`` and ``rx-frames`` of ``ethtool -C``, in hardware cycles and of
        both directions: an interrupt comes after that time or with so many completions, whichever is first; 0 switches
        that off, and without either it comes at once
    completion_cycles : hardware cycles that a completion waits in the device for others to share its line of four; one
        value for all queue pairs. Only a line that fills, or the end of its queue, cuts that short, so a lone packet is
        told of so much later: by default as after a reset, for software is the slower one. Four completions share a
        line at line rate if it is three times what a frame for each queue takes on the wire, and some to spare
    pool_size : buffers of a queue whose strategy has them in a pool of the device; 0: as many as both rings have
        entries, or as the device's pool can have
    pool_max : buffers that such a pool grows to when few of them are free; 0, or not more than it has: it does not grow
    pool : what a strategy with a page_pool asks of it
    """

    strategy: type[BufferStrategy]
    program: XdpProgram
    consumer: Consumer | None = None
    rx_entries: int = 512
    tx_entries: int = 512
    moderation_cycles: int = 0
    moderation_count: int = 0
    completion_cycles: int = COMPLETION_CYCLES
    pool_size: int = 0
    pool_max: int = 0
    pool: PoolOptions = NO_OPTIONS

    def __post_init__(self) -> None:
        check_entries("rx_entries", self.rx_entries)
        check_entries("tx_entries", self.tx_entries)
        for name in ("moderation_cycles", "moderation_count", "completion_cycles"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 1 << 16:
                raise ValueError(f"{name} must be in 0..65535, not {value!r}")
        for name in ("pool_size", "pool_max"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= MAX_POOL_BUFFERS:
                raise ValueError(f"{name} must be in 0..{MAX_POOL_BUFFERS}, not {value!r}")

    def check(self, queues: int, pools: int, pool_buffers: int, ahead: int) -> None:
        """Raise ``OSError`` unless a device with so many pools, of so many buffers each, of which each queue holds up
        to ``ahead`` in advance, can do this for so many queues."""
        if not issubclass(self.strategy, PooledStrategy):
            return
        if pools < queues:
            raise OSError(
                errno.EOPNOTSUPP,
                f"Strategy {self.strategy.name} needs a hardware pool for each of {queues} queue pairs; the device has "
                f"{pools}",
            )
        for name in ("pool_size", "pool_max"):
            value = getattr(self, name)
            if value > pool_buffers:
                raise OSError(errno.EINVAL, f"{name} must be in 0..{pool_buffers} on this device, not {value}")
        # With fewer, all of them may be held in advance or wait to be handed back.
        if self.pool_buffers(pool_buffers) < 2 * ahead:
            raise OSError(
                errno.EINVAL,
                f"pool_size must be at least {2 * ahead} on this device, whose queues hold {ahead} buffers in "
                f"advance, not {self.pool_buffers(pool_buffers)}",
            )

    def pool_buffers(self, most: int) -> int:
        """How many buffers a queue has in its pool, which can have so many."""
        return self.pool_size or min(self.rx_entries + self.tx_entries, most)
