# SPDX-License-Identifier: BSD-2-Clause
"""Fair choice between requesters."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grant one of ``count`` requesters.

    The search begins behind the requester of the last taken grant, so each waits for at most ``count - 1`` others. The
    grant is combinational and holds until taken, as long as its request does: one that arrives later does not displace
    it.

    Members
    -------
    requests : one bit each
    valid : some request is granted
    grant : its number
    taken : the grant is used in this cycle
    """

    def __init__(self, count: int):
        if not isinstance(count, int) or not 1 <= count <= 64:
            raise ValueError(f"Requesters must be an integer in 1..64, not {count!r}")
        self._count = count
        super().__init__(
            {"requests": In(count), "valid": Out(1), "grant": Out(range(count)), "taken": In(1)},
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        start = Signal(range(self._count))
        m.d.comb += self.valid.eq(self.requests.any())
        with m.Switch(start):
            for first in range(self._count):
                with m.Case(first):
                    for step in reversed(range(self._count)):
                        index = (first + step) % self._count
                        with m.If(self.requests[index]):
                            m.d.comb += self.grant.eq(index)
        with m.If(self.valid & self.taken):
            with m.Switch(self.grant):
                for index in range(self._count):
                    with m.Case(index):
                        m.d.sync += start.eq((index + 1) % self._count)
        with m.Elif(self.valid):
            m.d.sync += start.eq(self.grant)
        return m
