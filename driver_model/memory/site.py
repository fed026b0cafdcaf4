# SPDX-License-Identifier: BSD-2-Clause
"""Lines of driver code, for whoever explains what went wrong where."""

import sys
from pathlib import Path

Site = tuple[str, int]  #: file and line; a bare tuple, because checkers make several for each packet

_ROOT = Path(__file__).resolve().parents[2]
_MACHINERY = tuple(str(_ROOT / "driver_model" / part) for part in ("memory", "cpu", "net/skb"))
_inside: dict[str, bool] = {}


def caller(depth: int = 1) -> Site:
    """The innermost line that is neither the memory subsystem's, nor the core's, nor one of ``net/skb*``: the line that
    made the call.

    ``depth`` is how many frames the caller knows to be of these two, itself included: looking at one takes time.
    """
    frame = sys._getframe(depth)
    while True:
        filename = frame.f_code.co_filename
        inside = _inside.get(filename)
        if inside is None:
            inside = _inside[filename] = filename.startswith(_MACHINERY)
        if not inside or (back := frame.f_back) is None:
            return filename, frame.f_lineno
        frame = back


def told(site: Site) -> str:
    """A site for people."""
    path = Path(site[0])
    return f"{path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path}:{site[1]}"
