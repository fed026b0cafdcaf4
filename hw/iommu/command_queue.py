# SPDX-License-Identifier: BSD-2-Clause
"""The command queue (section 4.1)."""

from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.abi.iommu import AtsCommand, DirectoryMode, FenceCommand, InvalidationCompletion, InvalidationRequest
from hw.bus.axi4 import AXI4Signature, Response
from hw.bus.join import join
from hw.config import IommuConfig
from hw.iommu.ats import DeviceInvalidations
from hw.iommu.command_fetch import CommandFetch
from hw.iommu.commands import CommandDecoder, CommandKind
from hw.iommu.interfaces import INVALIDATIONS
from hw.iommu.register_access import RegisterWrite, index_mask, merged, register_layout, written
from hw.iommu.walk_port import BEAT_SIZE, FENCE_ID, WIDTH

ERRORS = ("cqmf", "cmd_to", "cmd_ill")


class CommandQueue(wiring.Component):
    """Fetches commands ahead and executes them in order; ``cqh`` goes one further with each.

    An invalidation is executed when ``invalidations`` takes it, at most one a cycle. ATS.INVAL is sent when all earlier
    ones are executed and every access that the channels accepted before is done, so that a device has the answers to
    all translation requests that they are about; only the first behind an invalidation waits for that. IOFENCE.C waits
    for every earlier invalidation, for the acknowledgement or timeout of every ATS.INVAL, and for every access that the
    channels accepted before, whatever its PR and PW say; then it writes its data, and once that is acknowledged sets
    ``fence_w_ip``.

    A memory fault, an illegal command and a fence that finds a timeout stop the queue: ``cqh`` stays at the command,
    and when software has cleared all three error bits, it is fetched again and executed anew. The fence after a timeout
    then only waits for what was sent since.

    Where ``cqen`` is cleared, waits end, commands not begun are given up, and ``cqon`` falls when no access to memory
    is under way; writes to cqcsr are ignored until then.

    Ports
    -----
    write, cqb, cqt : In
        Register writes, and the queue's place.
    cqh, cqcsr : Out
        Registers.
    mode : In
        The directory's.
    invalidations : Out, stream
        To the caches.
    fence, fenced : Out, In
        A wait for older accesses: see :class:`hw.iommu.fences.Fences`.
    invalidate, invalidated : streams
        Messages to and from devices; see :class:`hw.iommu.ats.DeviceInvalidations`.
    axi : AXI4
        Commands are read with ID 64, a fence's data is written with ID 66.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "write": In(RegisterWrite),
                "cqb": In(register_layout("cqb")),
                "cqt": In(register_layout("cqt")),
                "cqh": Out(register_layout("cqh")),
                "cqcsr": Out(register_layout("cqcsr")),
                "mode": In(DirectoryMode),
                "invalidations": Out(INVALIDATIONS),
                "fence": Out(1),
                "fenced": In(1),
                "invalidate": Out(stream.Signature(InvalidationRequest)),
                "invalidated": In(stream.Signature(InvalidationCompletion)),
                "axi": Out(AXI4Signature(WIDTH)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        csr = self.cqcsr
        m.submodules.fetch = fetch = CommandFetch()
        m.submodules.decoder = decoder = CommandDecoder(self._config)
        connect(m, fetch.ar, flipped(self.axi.ar))
        connect(m, flipped(self.axi.r), fetch.r)
        command = fetch.commands.payload.command
        fence = data.View(FenceCommand, command)
        m.d.comb += [
            fetch.base.eq(self.cqb),
            fetch.tail.eq(self.cqt.index),
            fetch.head.eq(self.cqh.index),
            decoder.command.eq(command),
            decoder.mode.eq(self.mode),
        ]
        waiting, timed_out, forget = Signal(), Signal(), Signal()
        send_valid, send_ready = Signal(), Signal()
        if self._config.ats:
            m.submodules.devices = devices = DeviceInvalidations(self._config)
            join(m, flipped(self.invalidated), devices.invalidated)
            join(m, devices.invalidate, flipped(self.invalidate))
            message(m, devices.send.payload, data.View(AtsCommand, command))
            m.d.comb += [
                devices.send.valid.eq(send_valid),
                send_ready.eq(devices.send.ready),
                waiting.eq(devices.waiting),
                timed_out.eq(devices.timed_out),
                devices.forget.eq(forget),
            ]
        else:
            m.d.comb += self.invalidated.ready.eq(1)

        stale = Signal()  # answers of before an invalidation may still be on their way to a device
        done = Signal()  # the command at the head is
        errors = {name: Signal(name=f"found_{name}") for name in (*ERRORS, "fence_w_ip")}
        stopped = csr.cqmf | csr.cmd_to | csr.cmd_ill
        with m.If(done):
            m.d.sync += self.cqh.index.eq((self.cqh.index + 1) & index_mask(self.cqb))
        m.d.comb += fetch.commands.ready.eq(done)
        self._registers(m, errors, forget)

        with m.If(self.invalidations.ready):
            m.d.sync += self.invalidations.valid.eq(0)
        with m.FSM():
            with m.State("OFF"):
                m.d.sync += csr.cqon.eq(csr.cqen)
                with m.If(csr.cqen):
                    m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.d.comb += fetch.run.eq(1)
                with m.If(~csr.cqen):
                    m.next = "STOP"
                with m.Elif(fetch.commands.valid & fetch.commands.payload.failed):
                    m.d.comb += errors["cqmf"].eq(1)
                    m.next = "STOP"
                with m.Elif(fetch.commands.valid):
                    with m.Switch(decoder.kind):
                        with m.Case(CommandKind.ILLEGAL):
                            m.d.comb += errors["cmd_ill"].eq(1)
                            m.next = "STOP"
                        with m.Case(CommandKind.NOTHING):
                            m.d.comb += done.eq(1)
                        with m.Case(CommandKind.INVALIDATE):
                            with m.If(~self.invalidations.valid | self.invalidations.ready):
                                m.d.comb += done.eq(1)
                                m.d.sync += [
                                    stale.eq(1),
                                    self.invalidations.payload.eq(decoder.invalidation),
                                    self.invalidations.valid.eq(1),
                                ]
                        with m.Case(CommandKind.FENCE):
                            m.next = "INVALIDATED"
                        with m.Case(CommandKind.ATS_INVALIDATE):
                            with m.If(stale):
                                m.next = "ANSWER"
                            with m.Else():
                                m.d.comb += [send_valid.eq(1), done.eq(send_ready)]
            with m.State("ANSWER"):
                m.d.comb += [fetch.run.eq(1), self.fence.eq(csr.cqen & ~self.invalidations.valid)]
                with m.If(~csr.cqen):
                    m.next = "STOP"
                with m.Elif(self.fenced):
                    m.d.sync += stale.eq(0)
                    m.next = "EXECUTE"
            with m.State("INVALIDATED"):
                m.d.comb += fetch.run.eq(1)
                with m.If(~csr.cqen):
                    m.next = "STOP"
                with m.Elif(~self.invalidations.valid & ~waiting):
                    m.next = "FENCE"
            with m.State("FENCE"):
                m.d.comb += [fetch.run.eq(1), self.fence.eq(csr.cqen)]
                with m.If(~csr.cqen):
                    m.next = "STOP"
                with m.Elif(self.fenced):
                    m.d.sync += stale.eq(0)
                    with m.If(timed_out):
                        m.d.comb += [errors["cmd_to"].eq(1), forget.eq(1)]
                        m.next = "STOP"
                    with m.Elif(fence.av & fence.address[self._config.physical_bits - 2 :].any()):
                        m.d.comb += errors["cqmf"].eq(1)
                        m.next = "STOP"
                    with m.Elif(fence.av):
                        m.d.sync += [self.axi.aw.valid.eq(1), self.axi.w.valid.eq(1)]
                        m.next = "WRITE"
                    with m.Else():
                        m.d.comb += [done.eq(1), errors["fence_w_ip"].eq(fence.wsi)]
                        m.next = "EXECUTE"
            with m.State("WRITE"):
                m.d.comb += [fetch.run.eq(1), self.axi.b.ready.eq(1)]
                with m.If(self.axi.aw.ready):
                    m.d.sync += self.axi.aw.valid.eq(0)
                with m.If(self.axi.w.ready):
                    m.d.sync += self.axi.w.valid.eq(0)
                with m.If(self.axi.b.valid):
                    with m.If(self.axi.b.payload.resp != Response.OKAY):
                        m.d.comb += errors["cqmf"].eq(1)
                        m.next = "STOP"
                    with m.Else():
                        m.d.comb += [done.eq(1), errors["fence_w_ip"].eq(fence.wsi)]
                        m.next = "EXECUTE"
            with m.State("STOP"):
                with m.If(fetch.idle):
                    with m.If(~csr.cqen):
                        m.d.sync += csr.cqon.eq(0)
                        m.next = "OFF"
                    with m.Elif(~stopped):
                        m.next = "EXECUTE"

        m.d.comb += [
            self.axi.aw.payload.id.eq(FENCE_ID),
            self.axi.aw.payload.addr.eq(Cat(Const(0, 3), fence.address[1:])),
            self.axi.aw.payload.size.eq(BEAT_SIZE),
            self.axi.w.payload.data.eq(fence.data.replicate(2)),
            self.axi.w.payload.strb.eq(Mux(fence.address[0], 0xF0, 0x0F)),
            self.axi.w.payload.last.eq(1),
        ]
        return m

    def _registers(self, m: Module, errors: dict[str, Signal], forget: Signal) -> None:
        csr = self.cqcsr
        m.d.comb += csr.busy.eq(csr.cqen ^ csr.cqon)
        with m.If(written(self.write, "cqcsr") & ~csr.busy):
            new = merged(self.write, "cqcsr", csr)
            m.d.sync += [csr.cqen.eq(new.cqen), csr.cie.eq(new.cie)]
            m.d.sync += [csr[name].eq(csr[name] & ~new[name]) for name in errors]
            with m.If(new.cqen & ~csr.cqen):
                m.d.comb += forget.eq(1)
                m.d.sync += self.cqh.index.eq(0)
                m.d.sync += [csr[name].eq(0) for name in errors]
        for name, found in errors.items():
            with m.If(found):
                m.d.sync += csr[name].eq(1)


def message(m: Module, request: Any, command: Any) -> None:
    """The request that an ATS.INVAL says."""
    payload = command.payload
    m.d.comb += [
        request.device_id.eq(Cat(command.rid, Mux(command.dsv, command.dseg, 0))),
        request.process_id.eq(Mux(command.pv, command.pid, 0)),
        request.process_id_valid.eq(command.pv),
        request.everywhere.eq(payload[0]),
        request.size.eq(payload[11]),
        request.address.eq(payload[12:]),
    ]
