# SPDX-License-Identifier: BSD-2-Clause
"""Code of one's own: ``FILE.py:NAME`` stands wherever a built-in strategy or program has a name."""

import hashlib
import runpy
import traceback
from functools import cache
from pathlib import Path
from typing import Any

MARK = ".py:"


def is_own(name: str) -> bool:
    """Whether a name is a file's."""
    return MARK in name


@cache
def load_own(name: str) -> Any:
    """What a file calls by that name, the same object each time. Raises ``ValueError`` that says what is wrong with the
    file."""
    file, _, attribute = name.rpartition(":")
    try:
        contents = runpy.run_path(file, run_name=file)
    except FileNotFoundError:
        raise ValueError(f"There is no file {file!r} to take {attribute!r} from") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f" (line {lines[-1]})" if lines else ""
        raise ValueError(f"{file!r} cannot be loaded: {type(error).__name__}: {error}{where}") from None
    if attribute not in contents:
        mine = [each for each, value in contents.items() if getattr(value, "__module__", None) == file]
        raise ValueError(f"{file!r} has {', '.join(mine) or 'nothing'} of its own, not {attribute!r}")
    return contents[attribute]


def digest(name: str) -> str:
    """SHA-256 of its file."""
    return hashlib.sha256(Path(name.rpartition(":")[0]).read_bytes()).hexdigest()
