# SPDX-License-Identifier: BSD-2-Clause
"""The storage primitive: a clocked byte array that Python sees too; the only part that each simulator replaces."""

from abc import ABC, abstractmethod
from typing import Any

from amaranth import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

WIDTHS = (8, 16, 32, 64, 128, 256, 512)
EXCHANGE_BITS = 64  #: of what an exchange compares


class StoragePort(wiring.Signature):
    """One read and one write port of a :class:`Storage`, seen from the user.

    Members
    -------
    read_enable, read_address : to the storage
        On the clock edge with ``read_enable``, the word at byte address ``read_address`` is read.
    read_data : from the storage
        That word from the edge on, until the next read; zero after reset. A word that the same edge writes reads as it
        was before.
    write_enable, write_address, write_data, write_strobe : to the storage
        On the clock edge with ``write_enable``, the bytes with their strobe bit set are written.
    write_exchange, write_expected : to the storage; only where ``exchange``
        With ``write_exchange``, all strobes that are set are in one aligned word of 8 bytes, and the write happens only
        if this word holds ``write_expected``: at the very edge, so that software's stores count too.
    write_exchanged : from the storage; only where ``exchange``
        From the edge of an exchange on, until the next: it happened.

    Addresses count bytes and are multiples of the word. Byte *i* of the word is in bits ``8 * i`` and up. An address
    that is not aligned or beyond the end ends the run with :class:`sim.backends.base.StorageError`.

    Parameters
    ----------
    width : bits of a word: 8, 16, 32, 64, 128, 256 or 512
    addr_width : bits of an address
    exchange : writes may be conditional
    """

    def __init__(self, width: int, *, addr_width: int = 64, exchange: bool = False):
        if width not in WIDTHS:
            raise ValueError(f"Storage width must be one of {', '.join(map(str, WIDTHS))}, not {width!r}")
        if not isinstance(addr_width, int) or not 1 <= addr_width <= 64:
            raise ValueError(f"Storage address width must be an integer in 1..64, not {addr_width!r}")
        self.width = width
        if exchange and width < EXCHANGE_BITS:
            raise ValueError(f"Storage width must be at least {EXCHANGE_BITS} for exchanges, not {width!r}")
        self.addr_width = addr_width
        self.exchange = exchange
        conditional = {"write_exchange": Out(1), "write_expected": Out(EXCHANGE_BITS), "write_exchanged": In(1)}
        super().__init__(
            {
                "read_enable": Out(1),
                "read_address": Out(addr_width),
                "read_data": In(width),
                "write_enable": Out(1),
                "write_address": Out(addr_width),
                "write_data": Out(width),
                "write_strobe": Out(width // 8),
                **(conditional if exchange else {}),
            }
        )


class Storage(wiring.Component):
    """A named byte array in the simulated machine.

    Its bytes belong to Python: ``backend.storage[name]`` is a numpy array of ``size`` bytes, zero after reset, which
    software reads and writes between clock edges. What it writes after edge *n* is seen by edge *n* + 1; what edge *n*
    wrote is there when software runs after it. Every write of the hardware is compared with the backend's watches.

    Parameters
    ----------
    name : unique in a machine
    size : bytes, a multiple of the word
    width, addr_width, exchange : see :class:`StoragePort`

    Ports
    -----
    port : In StoragePort(width)
    """

    def __init__(self, name: str, size: int, width: int, *, addr_width: int = 64, exchange: bool = False):
        signature = StoragePort(width, addr_width=addr_width, exchange=exchange)
        if not isinstance(name, str) or not name:
            raise TypeError(f"Storage name must be a non-empty string, not {name!r}")
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"Storage size must be an integer, not {size!r}")
        if size <= 0 or size % (width // 8) or size > 1 << addr_width:
            raise ValueError(
                f"Storage size must be a multiple of {width // 8} bytes in 1..2**{addr_width}, not {size!r}"
            )
        self.name = name
        self.size = size
        self.width = width
        self.addr_width = addr_width
        self.exchange = exchange
        super().__init__({"port": In(signature)})

    def elaborate(self, platform: Any) -> Elaboratable:
        if isinstance(platform, StoragePlatform):
            return platform.storage(self)
        raise TypeError(f"Storage {self.name!r} needs a backend's StoragePlatform to elaborate, not {platform!r}")


class StoragePlatform(ABC):
    """What elaborates a machine for one simulator: it provides the storage primitive."""

    def __init__(self) -> None:
        self.storages: list[Storage] = []

    def storage(self, storage: Storage) -> Elaboratable:
        """The primitive for one storage; its number is its place in :attr:`storages`."""
        if any(other.name == storage.name for other in self.storages):
            raise ValueError(f"A machine has one storage of a name; {storage.name!r} is there twice")
        self.storages.append(storage)
        return self.primitive(storage, len(self.storages) - 1)

    @abstractmethod
    def primitive(self, storage: Storage, number: int) -> Module:
        """Logic that serves the storage's port."""
