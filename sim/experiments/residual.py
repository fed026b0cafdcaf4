# SPDX-License-Identifier: BSD-2-Clause
"""Residuals: cycles of a packet that are known from a total only, fitted once."""

import hashlib
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent / "residuals"
ENTRIES = {"name": str, "figure": str, "profile": str, "variant": str, "cycles": int}


class ResidualError(ValueError):
    """A residual that leaves something open, or has what nobody knows."""


class Residual:
    """A TOML file: ``name``; ``figure``, the published total that it was fitted to; ``profile`` and ``variant``, the
    run that gives the total with it; ``cycles``, core cycles for each packet.

    ``where`` names the file in messages. Raises :class:`ResidualError`.
    """

    def __init__(self, text: str, where: str = "residual") -> None:
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ResidualError(f"{where}: {error}") from None
        if set(table) != set(ENTRIES):
            raise ResidualError(f"{where} must have {', '.join(ENTRIES)}, not {', '.join(table) or 'nothing'}")
        for key, kind in ENTRIES.items():
            if not isinstance(table[key], kind) or isinstance(table[key], bool):
                raise ResidualError(f"{where}: {key} must be a {kind.__name__}, not {table[key]!r}")
        self.name: str = table["name"]
        self.figure: str = table["figure"]
        self.profile: str = table["profile"]
        self.variant: str = table["variant"]
        self.cycles: int = table["cycles"]
        if self.cycles < 0:
            raise ResidualError(f"{where}: cycles must be 0 or more, not {self.cycles!r}")
        self.digest = hashlib.sha256(text.encode()).hexdigest()  #: of the file, for results

    @classmethod
    def load(cls, name: str) -> "Residual":
        """One that comes with Pagewheel. Raises ``ValueError`` if there is none of that name."""
        if name not in cls.names():
            raise ValueError(f"Residual must be one of {', '.join(cls.names())}, not {name!r}")
        path = FOLDER / f"{name}.toml"
        return cls(path.read_text(encoding="utf-8"), path.name)

    @staticmethod
    def names() -> list[str]:
        """Residuals that come with Pagewheel."""
        return sorted(path.stem for path in FOLDER.glob("*.toml"))
