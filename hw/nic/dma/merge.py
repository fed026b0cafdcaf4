# SPDX-License-Identifier: BSD-2-Clause
"""Commands of several clients, one after another."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.interfaces import Command


class OwnedCommand(data.StructLayout):
    """A command and the number of the client that it comes from."""

    def __init__(self, config: NicConfig, clients: int):
        super().__init__({"command": Command(config), "client": range(max(2, clients))})


class CommandMerge(wiring.Component):
    """Take the commands of ``clients`` in turn, round robin, one a cycle, of one client or of several.

    ::

        client ─► skid buffer ─► front ─┐
        client ─► skid buffer ─► front ─┴─► output

    Whose front is offered was chosen in the cycle before, so that ``output`` is a register of the client whose turn it
    is: a command is offered two cycles after the client handed it over at the earliest. A turn holds until the command
    is taken. ``ready`` of the clients comes from registers.

    Members
    -------
    clients[i] : stream of Command
    output : stream of OwnedCommand
        Its ``ready`` should come from few registers: it enables all of those above.
    """

    def __init__(self, config: NicConfig, clients: int):
        if not isinstance(clients, int) or not 1 <= clients <= 16:
            raise ValueError(f"Clients must be an integer in 1..16, not {clients!r}")
        self._config = config
        self._count = clients
        super().__init__(
            {
                "clients": In(stream.Signature(Command(config))).array(clients),
                "output": Out(stream.Signature(OwnedCommand(config, clients))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # One-hot: whose turn it is, or was last.
        turn = Signal(self._count, init=1)
        waits, taken = Signal(self._count), Signal(self._count)
        left = Signal(self._count)  # fronts that will hold a command in the next cycle
        command, number = 0, 0
        for i, client in enumerate(self.clients):
            m.submodules[f"skid_{i}"] = skid = SkidBuffer(client.p.shape())
            connect(m, flipped(client), skid.input)
            front = Signal(client.p.shape(), name=f"front_{i}", reset_less=True)
            m.d.comb += [
                taken[i].eq(turn[i] & self.output.valid & self.output.ready),
                skid.output.ready.eq(~waits[i] | taken[i]),
                left[i].eq(skid.output.valid | (waits[i] & ~taken[i])),
            ]
            with m.If(skid.output.ready):
                m.d.sync += front.eq(skid.output.p)
            command |= Mux(turn[i], front.as_value(), 0)
            number |= Mux(turn[i], i, 0)
        m.d.sync += waits.eq(left)
        with m.If(~self.output.valid | self.output.ready):
            m.d.sync += self.output.valid.eq(left.any())
            with m.If(left.any()):
                m.d.sync += turn.eq(_behind(turn, left))
        m.d.comb += [
            self.output.p.command.eq(command),
            self.output.p.client.eq(number),
        ]
        return m


def _behind(turn: Signal, requests: Signal):
    """One-hot: the first of ``requests`` behind that of ``turn``, round."""
    count = len(turn)
    grants = []
    for i in range(count):
        # From each place it may be, past all that lie between.
        reached = 0
        for step in range(1, count + 1):
            between = [requests[(i - back) % count] for back in range(1, step)]
            reached |= turn[(i - step) % count] & ~Cat(between).any()
        grants.append(requests[i] & reached)
    return Cat(grants)
