# SPDX-License-Identifier: BSD-2-Clause
"""A machine whose devices do not see into the CPU caches."""

from functools import cache

from driver_model.cpu.profile import FOLDER, Profile

NAME = "e5-1650v4"


@cache
def noncoherent_profile() -> Profile:
    """The costs of a machine that exists, on one that is not coherent."""
    text = (FOLDER / f"{NAME}.toml").read_text(encoding="utf-8")
    return Profile(text.replace("\nfrequency_khz", "\ncoherent = false\nfrequency_khz", 1))
