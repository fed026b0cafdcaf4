# SPDX-License-Identifier: BSD-2-Clause
"""Stages of pipelines that never stall."""

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Module, Signal, ValueLike


def register_stage(m: Module, name: str, valid: ValueLike, **values: ValueLike) -> SimpleNamespace:
    """The next stage: ``values`` as they were at the last clock edge with ``valid``, which ``valid`` of the result
    follows by one cycle. Each register is called after the stage and the value, and has the value's shape."""
    registers = {key: Signal.like(value, name=f"{name}_{key}", reset_less=True) for key, value in values.items()}
    stage = SimpleNamespace(valid=Signal(name=f"{name}_valid"), **registers)
    m.d.sync += stage.valid.eq(valid)
    with m.If(valid):
        m.d.sync += [register.eq(values[key]) for key, register in registers.items()]
    return stage


def next_stage(
    m: Module, name: str, last: SimpleNamespace, kept: str, *, valid: ValueLike | None = None, **found: ValueLike
) -> SimpleNamespace:
    """The stage behind ``last``: those of its values that ``kept`` names, separated by spaces, and what was found.
    ``valid`` is that of ``last`` where it is not given."""
    before = {key: getattr(last, key) for key in kept.split()}
    return register_stage(m, name, last.valid if valid is None else valid, **before, **found)


def delay(m: Module, name: str, stages: int, valid: ValueLike, **values: Any) -> SimpleNamespace:
    """``values`` that go with ``valid``, some stages later; none at all is allowed."""
    stage = SimpleNamespace(valid=valid, **values)
    for i in range(stages):
        stage = register_stage(m, f"{name}_{i}", **vars(stage))
    return stage
