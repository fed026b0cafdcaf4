# SPDX-License-Identifier: BSD-2-Clause
"""What entries of the device directory mean, double-word by double-word."""

from typing import Any

from amaranth import Module, Value
from amaranth.lib import enum, wiring
from amaranth.lib.data import View
from amaranth.lib.wiring import In, Out

from hw.abi.iommu import (
    DirectoryEntry,
    FirstMode,
    FirstStage,
    SecondMode,
    SecondStage,
    TranslationAttributes,
    TranslationControl,
)
from hw.config import IommuConfig


class DirectoryWord(enum.Enum, shape=3):
    """What a double-word of the directory is. The first four are a context's, in its order."""

    CONTROL = 0
    SECOND = 1
    ATTRIBUTES = 2
    FIRST = 3
    ENTRY = 4


class DirectoryCheck(wiring.Component):
    """Checks one double-word, combinationally: "Process to locate the Device-context", steps 5, 6, 9 and 10, and
    "Device-context configuration checks", for what the capabilities register says of this configuration. A context is
    misconfigured if one of its words is.

    Ports
    -----
    word, kind : the double-word
    invalid : V is 0
    misconfigured : a reserved bit or mode, or a feature that is not there
    """

    def __init__(self, config: IommuConfig):
        self._config = config
        super().__init__({"word": In(64), "kind": In(DirectoryWord), "invalid": Out(1), "misconfigured": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, bad = self._config, self.misconfigured
        control, second = View(TranslationControl, self.word), View(SecondStage, self.word)
        attributes, first = View(TranslationAttributes, self.word), View(FirstStage, self.word)
        entry = View(DirectoryEntry, self.word)

        first_modes = [FirstMode.BARE, FirstMode.SV39, FirstMode.SV48][: config.first_levels - 1]
        second_modes = [SecondMode.BARE, SecondMode.SV39X4, SecondMode.SV48X4][: config.second_levels - 1]
        with m.Switch(self.kind):
            with m.Case(DirectoryWord.CONTROL):
                absent = control.en_pri | control.prpr | control.t2gpa | control.pdtv | control.dpe
                absent |= control.sbe | control.sxl
                absent |= (control.reserved != 0) | (control.reserved_high != 0)
                if not config.ats:
                    absent |= control.en_ats
                if not config.hardware_ad:
                    absent |= control.sade | control.gade
                m.d.comb += [self.invalid.eq(~control.v), bad.eq(absent)]
            with m.Case(DirectoryWord.SECOND):
                # The root table has 16 KiB.
                with m.If(second.mode != SecondMode.BARE):
                    m.d.comb += bad.eq(~_among(second.mode, second_modes) | second.ppn[:2].any())
            with m.Case(DirectoryWord.ATTRIBUTES):
                m.d.comb += bad.eq((attributes.reserved != 0) | (attributes.reserved_high != 0))
            with m.Case(DirectoryWord.FIRST):
                m.d.comb += bad.eq(~_among(first.mode, first_modes) | (first.reserved != 0))
            with m.Default():
                m.d.comb += [
                    self.invalid.eq(~entry.v),
                    bad.eq((entry.reserved != 0) | (entry.reserved_high != 0)),
                ]
        return m


def _among(mode: Any, allowed: list[Any]) -> Value:
    return Value.cast(mode).matches(*(each.value for each in allowed))


def learn(m: Module, context: Any, word: Value, beat: Value) -> None:
    """Take a double-word into ``context``, a :class:`hw.iommu.interfaces.Context` that starts as 0, combinationally;
    after all four, in order, it is complete."""
    control, second = View(TranslationControl, word), View(SecondStage, word)
    attributes, first = View(TranslationAttributes, word), View(FirstStage, word)
    with m.Switch(beat):
        with m.Case(0):
            m.d.comb += [
                context.enable_ats.eq(control.en_ats),
                context.quiet.eq(control.dtf),
                context.sade.eq(control.sade),
                context.gade.eq(control.gade),
            ]
        with m.Case(1):
            m.d.comb += [context.second_mode.eq(second.mode), context.second_ppn.eq(second.ppn)]
            with m.If(second.mode != SecondMode.BARE):
                m.d.comb += [context.space.second.eq(1), context.space.gscid.eq(second.gscid)]
        with m.Case(2):
            m.d.comb += context.space.pscid.eq(attributes.pscid)
        with m.Case(3):
            m.d.comb += [context.first_mode.eq(first.mode), context.first_ppn.eq(first.ppn)]
            with m.If(first.mode != FirstMode.BARE):
                m.d.comb += context.space.first.eq(1)
            with m.Else():
                m.d.comb += context.space.pscid.eq(0)
