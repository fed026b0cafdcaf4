# SPDX-License-Identifier: BSD-2-Clause
"""What a command says, and whether it may."""

from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import (
    COMMAND_BYTES,
    DIRECTORY_BITS,
    AtsCommand,
    AtsFunction,
    DirectoryCommand,
    DirectoryFunction,
    DirectoryMode,
    FenceCommand,
    InvalidateCommand,
    InvalidateFunction,
    Opcode,
)
from hw.config import IommuConfig
from hw.iommu.interfaces import Invalidation, InvalidationKind

COMMAND_BITS = 8 * COMMAND_BYTES
PROCESS_BITS = 8  #: of the PID that IODIR.INVAL_PDT takes: those of the smallest process directory


class CommandKind(enum.Enum, shape=3):
    """What is to be done with a command."""

    ILLEGAL = 0
    NOTHING = 1  #: it is about what there is not
    INVALIDATE = 2
    FENCE = 3
    ATS_INVALIDATE = 4


def _reserved(layout: type[data.Struct], command: Value) -> Value:
    """Whether a bit is on that must not be."""
    mask = 0
    for name, field in data.Layout.cast(layout):
        if name.startswith("reserved"):
            mask |= ((1 << field.width) - 1) << field.offset
    return (command & mask).any()


class CommandDecoder(wiring.Component):
    """Decodes a command (section 4.1), combinationally.

    Illegal are reserved opcodes, functions and bits; PSCV = 1 in IOTINVAL.GVMA; of IODIR a DID wider than the
    directory's, a PID in INVAL_DDT, and in INVAL_PDT DV = 0 or a PID of more than 8 bits; ATS without the capability.
    INVAL_PDT does nothing, as no process directory is cached, and neither does ATS.PRGR, as no device could have sent
    a page request.

    Ports
    -----
    command : In
        16 bytes.
    mode : In
        The directory's.
    kind : Out
        What to do.
    invalidation : Out
        Of an INVALIDATE. Where S = 1 its range is as large as the address's trailing ones say; NL and S count only
        with an address.
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__(
            {
                "command": In(COMMAND_BITS),
                "mode": In(DirectoryMode),
                "kind": Out(CommandKind),
                "invalidation": Out(Invalidation),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        with m.Switch(self.command[:7]):
            with m.Case(Opcode.IOTINVAL):
                self._translations(m, data.View(InvalidateCommand, self.command))
            with m.Case(Opcode.IOFENCE):
                fence = data.View(FenceCommand, self.command)
                with m.If((fence.func3 == 0) & ~_reserved(FenceCommand, self.command)):
                    m.d.comb += self.kind.eq(CommandKind.FENCE)
            with m.Case(Opcode.IODIR):
                self._directory(m, data.View(DirectoryCommand, self.command))
            if self._config.ats:
                with m.Case(Opcode.ATS):
                    self._device(m, data.View(AtsCommand, self.command))
        return m

    def _translations(self, m: Module, command: Any) -> None:
        guest = command.func3 == InvalidateFunction.GVMA.value
        legal = (command.func3 == InvalidateFunction.VMA.value) | guest & ~command.pscv
        with m.If(legal & ~_reserved(InvalidateCommand, self.command)):
            m.d.comb += self.kind.eq(CommandKind.INVALIDATE)
        m.d.comb += [
            self.invalidation.kind.eq(Mux(guest, InvalidationKind.GVMA, InvalidationKind.VMA)),
            self.invalidation.page_valid.eq(command.av & (command.gv | ~guest)),
            self.invalidation.page.eq(command.address),
            self.invalidation.mask.eq(Mux(command.s, command.address ^ (command.address + 1), 0)),
            self.invalidation.nonleaf.eq(command.nl),
            self.invalidation.pscid_valid.eq(command.pscv),
            self.invalidation.pscid.eq(command.pscid),
            self.invalidation.gscid_valid.eq(command.gv),
            self.invalidation.gscid.eq(command.gscid),
        ]

    def _directory(self, m: Module, command: Any) -> None:
        wide = Signal()
        bits = 0
        with m.Switch(self.mode):
            for mode, more in zip((DirectoryMode.LVL1, DirectoryMode.LVL2), DIRECTORY_BITS, strict=False):
                bits += more
                with m.Case(mode):
                    m.d.comb += wide.eq(command.did[bits:].any())
        fine = ~_reserved(DirectoryCommand, self.command) & ~(command.dv & wide)
        with m.If(fine & (command.func3 == DirectoryFunction.INVAL_DDT.value) & (command.pid == 0)):
            m.d.comb += self.kind.eq(CommandKind.INVALIDATE)
        with m.If(
            fine & (command.func3 == DirectoryFunction.INVAL_PDT.value) & command.dv & ~command.pid[PROCESS_BITS:].any()
        ):
            m.d.comb += self.kind.eq(CommandKind.NOTHING)
        m.d.comb += [
            self.invalidation.kind.eq(InvalidationKind.CONTEXT),
            self.invalidation.device_valid.eq(command.dv),
            self.invalidation.device_id.eq(command.did),
        ]

    def _device(self, m: Module, command: Any) -> None:
        with m.If(~_reserved(AtsCommand, self.command)):
            with m.Switch(command.func3):
                with m.Case(AtsFunction.INVAL.value):
                    m.d.comb += self.kind.eq(CommandKind.ATS_INVALIDATE)
                with m.Case(AtsFunction.PRGR.value):
                    m.d.comb += self.kind.eq(CommandKind.NOTHING)
