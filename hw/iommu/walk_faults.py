# SPDX-License-Identifier: BSD-2-Clause
"""Causes that depend on the access that was asked for, whatever access of a table met the fault."""

from types import MappingProxyType
from typing import Any

from amaranth import Module

from hw.abi.iommu import Cause
from hw.iommu.interfaces import Access

ACCESS_FAULT = MappingProxyType(
    {
        Access.READ: Cause.READ_ACCESS,
        Access.WRITE: Cause.WRITE_ACCESS,
        Access.EXECUTE: Cause.INSTRUCTION_ACCESS,
        Access.TRANSLATE: Cause.READ_ACCESS,
    }
)
PAGE_FAULT = MappingProxyType(
    {
        Access.READ: Cause.READ_PAGE,
        Access.WRITE: Cause.WRITE_PAGE,
        Access.EXECUTE: Cause.INSTRUCTION_PAGE,
        Access.TRANSLATE: Cause.READ_PAGE,
    }
)
GUEST_PAGE_FAULT = MappingProxyType(
    {
        Access.READ: Cause.READ_GUEST_PAGE,
        Access.WRITE: Cause.WRITE_GUEST_PAGE,
        Access.EXECUTE: Cause.INSTRUCTION_GUEST_PAGE,
        Access.TRANSLATE: Cause.READ_GUEST_PAGE,
    }
)


def assign_cause(m: Module, cause: Any, access: Any, causes: Any) -> None:
    """Drive ``cause`` with that of ``causes`` for the access."""
    with m.Switch(access):
        for each, value in causes.items():
            with m.Case(each):
                m.d.comb += cause.eq(value)
