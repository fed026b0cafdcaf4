# SPDX-License-Identifier: BSD-2-Clause
"""The Toeplitz hash of receive-side scaling."""

from collections.abc import Sequence
from functools import reduce
from operator import xor

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.abi.steering import RSS_KEY_BYTES

HASH_BYTES = 4
MESSAGE_BYTES = RSS_KEY_BYTES - HASH_BYTES
_GROUP = 5  #: bytes of the message whose contribution is found in one cycle, so that few levels of logic do


def bits_first_to_last(value: Value) -> Value:
    """Bytes, the first lowest, as one number of which the first bit is the highest."""
    return Cat(value[start : start + 8] for start in reversed(range(0, len(value), 8)))


class Toeplitz(wiring.Component):
    """Toeplitz hash of a message of 36 bytes, a few of them a cycle.

    Every bit of the message that is set adds, by exclusive or, the 32 bits of the key that begin at its place. A
    shorter message has zeros behind it, which add nothing.

    A message takes ``steps`` cycles, after which the next may start; ``done`` comes ``steps + 2`` cycles after
    ``start``, in order, and waits for nobody. A key that changes meanwhile gives a hash of neither.

    Parameters
    ----------
    steps : cycles for a message: 1, 2, 4 or 8

    Members
    -------
    key : first byte lowest
    start, message : begin, only while ``ready``; first byte lowest
    ready : a message may start
    done, hash : the oldest message's hash, for one cycle; the first bit is the highest
    """

    def __init__(self, steps: int):
        if not isinstance(steps, int) or isinstance(steps, bool):
            raise TypeError(f"Toeplitz steps must be an integer, not {steps!r}")
        if steps not in (1, 2, 4, 8):
            raise ValueError(f"Toeplitz steps must be 1, 2, 4 or 8, not {steps!r}")
        self._steps = steps
        super().__init__(
            {
                "key": In(8 * RSS_KEY_BYTES),
                "start": In(1),
                "message": In(8 * MESSAGE_BYTES),
                "ready": Out(1),
                "done": Out(1),
                "hash": Out(8 * HASH_BYTES),
            }
        )

    @property
    def steps(self) -> int:
        """Cycles for a message."""
        return self._steps

    @property
    def step_bytes(self) -> int:
        """Bytes of the message that are looked at in one cycle."""
        return -(-MESSAGE_BYTES // self._steps)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = self.step_bytes
        message = Signal(8 * size * self._steps)
        step = Signal(range(self._steps))
        busy, last = Signal(), Signal()
        m.d.comb += [last.eq(step == self._steps - 1), self.ready.eq(~busy | last)]
        # What would begin is taken whenever it could, so that no wide register waits for `start`.
        with m.If(self.ready):
            m.d.sync += [step.eq(0), busy.eq(self.start), message.eq(self.message)]
        with m.Else():
            m.d.sync += [step.eq(step + 1), message.eq(message >> 8 * size)]

        window = self._window(m, step, busy & ~last)
        parts = [Signal(8 * HASH_BYTES, name=f"part_{start}") for start in range(0, size, _GROUP)]
        first, adding, ending = Signal(), Signal(), Signal()
        with m.If(busy):
            for number, part in enumerate(parts):
                start, stop = _GROUP * number, min(_GROUP * (number + 1), size)
                m.d.sync += part.eq(_contribution(message[8 * start : 8 * stop], window[8 * start :]))
        m.d.sync += [adding.eq(busy), first.eq(step == 0), ending.eq(busy & last), self.done.eq(ending)]
        with m.If(adding):
            m.d.sync += self.hash.eq(_tree([*parts, Mux(first, 0, self.hash)] if self._steps > 1 else parts))
        return m

    def _window(self, m: Module, step: Signal, going_on: Value) -> Value:
        """The key from the place of the step's first byte on."""
        size = self.step_bytes
        if self._steps == 1:
            return self.key
        width = 8 * (size + HASH_BYTES)
        padded = Cat(self.key, Const(0, 8 * (size * self._steps - MESSAGE_BYTES)))
        windows = Array(padded[8 * size * number :][:width] for number in range(self._steps))
        window = Signal(width)
        # A message's last step is followed by the first of another, or by none.
        m.d.sync += window.eq(windows[Mux(going_on, step + 1, 0)])
        return window


def _contribution(message: Value, key: Value) -> Value:
    """What these bytes add to the hash; ``key`` begins at the first one's place."""
    bits = bits_first_to_last(message)
    span = bits_first_to_last(key[: len(message) + 8 * HASH_BYTES])
    width = 8 * HASH_BYTES
    return _tree(
        [
            Mux(bits[len(bits) - 1 - place], span[len(span) - width - place : len(span) - place], 0)
            for place in range(len(bits))
        ]
    )


def _tree(terms: Sequence[Value]) -> Value:
    """Exclusive or of all terms, as shallow as can be."""
    terms = list(terms)
    while len(terms) > 4:
        terms = [reduce(xor, terms[start : start + 4]) for start in range(0, len(terms), 4)]
    return reduce(xor, terms)
