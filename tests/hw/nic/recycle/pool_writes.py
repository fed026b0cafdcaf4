# SPDX-License-Identifier: BSD-2-Clause
"""Writes to registers of pools as the NIC's blocks hear them."""

from typing import Any

from hw.abi.registers import register_map


def begin_write(ctx: Any, port: Any, name: str, pool: int, **fields: int) -> None:
    """Put one write to a pool's register on a PoolWrite, until :func:`end_write`. Fields that are not given are 0."""
    ctx.set(port.pool, pool)
    ctx.set(port.data, register_map(1, pools=16).pool[name].pack(**fields))
    ctx.set(port.at, {name: 1})


def end_write(ctx: Any, port: Any) -> None:
    """No register is written any more."""
    ctx.set(port.at, {})
