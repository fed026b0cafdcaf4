# SPDX-License-Identifier: BSD-2-Clause
"""The account of streams: in how many cycles each of them moved, was stalled, was starved."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.nic.probes import Probes
from sim.backends.base import Backend
from sim.host.storage import Storage

ACCOUNT = "account"
COUNT_BITS = 32
RECORD_BYTES = 32
AMOUNT_BITS = 16  #: of what is added in a cycle

#: Words of a record, of ``COUNT_BITS`` each: what was counted up to ``edge``, and the edge of the last transfer. Of an
#: amount, ``moved`` is its sum.
FIELDS = ("edge", "moved", "stalled", "starved", "last")


class StreamAccount(wiring.Component):
    """Counts, for each stream, the cycles in which it moves (valid and ready), is stalled by what is behind it (valid
    alone), and is starved by what is before it (ready alone); and adds up amounts.

    Storage ``account`` has a record of each (:data:`FIELDS`). One of them is written with every edge, in turn, so
    each is at most as many edges old as there are records. Software may look at any time: a record is of one edge, and
    names it. All counts are modulo 2**32.

    Parameters
    ----------
    streams, amounts : names, in the order of their records

    Ports
    -----
    cycle : In 64
        Edges taken since reset.
    streams : In Probes(streams)
    amounts : In, for each name ``AMOUNT_BITS``
        To be added in this cycle.
    """

    def __init__(self, streams: Sequence[str], amounts: Sequence[str] = ()):
        names = [*streams, *amounts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Streams and amounts must have names, each its own, not {names!r}")
        self.names = tuple(names)
        super().__init__(
            {
                "cycle": In(64),
                "streams": In(Probes(streams)),
                "amounts": In(wiring.Signature({name: Out(AMOUNT_BITS) for name in amounts})),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.storage = storage = Storage(ACCOUNT, len(self.names) * RECORD_BYTES, 8 * RECORD_BYTES)
        port = storage.port
        turn = Signal(range(len(self.names)))
        edge = self.cycle[:COUNT_BITS]
        records = [
            *(self._count(m, name, place) for place, name in enumerate(self.streams.signature.names)),
            *(self._add(m, name) for name in self.amounts.signature.members),
        ]
        m.d.comb += [port.write_enable.eq(1), port.write_address.eq(turn * RECORD_BYTES), port.write_strobe.eq(-1)]
        with m.Switch(turn):
            for place, record in enumerate(records):
                with m.Case(place):
                    m.d.comb += port.write_data.eq(Cat(edge, *record))
        m.d.sync += turn.eq(turn + 1)
        with m.If(turn == len(records) - 1):
            m.d.sync += turn.eq(0)
        return m

    def _count(self, m: Module, name: str, place: int) -> tuple[Signal, ...]:
        valid, ready = self.streams.valid[place], self.streams.ready[place]
        moved, stalled, starved, last = (Signal(COUNT_BITS, name=f"{name}_{kind}") for kind in FIELDS[1:])
        with m.If(valid & ready):
            m.d.sync += [moved.eq(moved + 1), last.eq(self.cycle + 1)]
        with m.Elif(valid):
            m.d.sync += stalled.eq(stalled + 1)
        with m.Elif(ready):
            m.d.sync += starved.eq(starved + 1)
        return moved, stalled, starved, last

    def _add(self, m: Module, name: str) -> tuple[Signal, ...]:
        total = Signal(COUNT_BITS, name=f"{name}_total")
        amount = getattr(self.amounts, name)
        with m.If(amount != 0):
            m.d.sync += total.eq(total + amount)
        return (total,)


class StreamCount(NamedTuple):
    """Cycles of a stream, in all of ``cycles``."""

    cycles: int
    moved: int  #: with a transfer; of an amount, its sum
    stalled: int  #: offered, and not taken
    starved: int  #: could have been taken, and not offered

    def share(self, cycles: int) -> float:
        """Some of its cycles, in percent of all."""
        return 100 * cycles / self.cycles

    @property
    def rate(self) -> Fraction:
        """Transfers, or the amount, of a cycle."""
        return Fraction(self.moved, self.cycles)


class AccountClient:
    """Software's side of a :class:`StreamAccount`; made after each reset.

    Parameters
    ----------
    names : as the hardware was given them, amounts behind streams
    """

    def __init__(self, backend: Backend, names: Sequence[str]):
        self._names = tuple(names)
        storage = backend.storage[ACCOUNT]
        if len(storage) != len(self._names) * RECORD_BYTES:
            raise ValueError(
                f"The account has {len(storage) // RECORD_BYTES} records, so there must be as many names, not {names!r}"
            )
        self._records = storage.view(np.dtype("<u4")).reshape(len(self._names), -1)
        self._begin = np.zeros_like(self._records)

    def begin(self) -> None:
        """Count from now on, instead of from reset."""
        self._begin = self._records.copy()

    def counts(self) -> dict[str, StreamCount]:
        """What happened since. Each stream's time begins, and ends, as many edges ago as there are names, or later."""
        spent = self._records - self._begin
        return {name: StreamCount(*map(int, record[:4])) for name, record in zip(self._names, spent, strict=True)}

    def last(self) -> dict[str, int]:
        """The edge of each stream's last transfer, as known now; 0 where none was."""
        return {name: int(record[4]) for name, record in zip(self._names, self._records, strict=True)}
