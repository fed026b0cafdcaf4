# SPDX-License-Identifier: BSD-2-Clause
"""Commands of several clients, one after another."""

from amaranth.hdl import Array, Cat, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus.skid import SkidBuffer
from hw.config import NicConfig
from hw.nic.dma.arbiter import RoundRobin
from hw.nic.interfaces import Command


class OwnedCommand(data.StructLayout):
    """A command and the number of the client that it comes from."""

    def __init__(self, config: NicConfig, clients: int):
        super().__init__({"command": Command(config), "client": range(max(2, clients))})


class CommandMerge(wiring.Component):
    """Take the commands of ``clients`` in turn, round robin, one a cycle.

    A command waits in its client's skid buffer until its turn; it is offered two cycles after the client handed it
    over. ``output`` and the ``ready`` of the clients come from registers.

    Members
    -------
    clients[i] : stream of Command
    willing : one bit each: the client may have a turn
    chosen : one bit each: the client has its turn in this cycle, and its command is next on its way to ``output``
    output : stream of OwnedCommand
    """

    def __init__(self, config: NicConfig, clients: int):
        if not isinstance(clients, int) or not 1 <= clients <= 16:
            raise ValueError(f"Clients must be an integer in 1..16, not {clients!r}")
        self._config = config
        self._count = clients
        super().__init__(
            {
                "clients": In(stream.Signature(Command(config))).array(clients),
                "willing": In(clients),
                "chosen": Out(clients),
                "output": Out(stream.Signature(OwnedCommand(config, clients))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = RoundRobin(self._count)
        m.submodules.merged = merged = SkidBuffer(self.output.p.shape())
        connect(m, merged.output, flipped(self.output))
        waiting = []
        for i, client in enumerate(self.clients):
            m.submodules[f"skid_{i}"] = skid = SkidBuffer(client.p.shape())
            connect(m, flipped(client), skid.input)
            waiting.append(skid.output)
            m.d.comb += [
                self.chosen[i].eq(arbiter.valid & arbiter.taken & (arbiter.grant == i)),
                skid.output.ready.eq(self.chosen[i]),
            ]
        m.d.comb += [
            arbiter.requests.eq(Cat(port.valid for port in waiting) & self.willing),
            arbiter.taken.eq(merged.input.ready),
            merged.input.valid.eq(arbiter.valid),
            merged.input.p.command.eq(Array(port.p for port in waiting)[arbiter.grant]),
            merged.input.p.client.eq(arbiter.grant),
        ]
        return m
