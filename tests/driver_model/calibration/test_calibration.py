# SPDX-License-Identifier: BSD-2-Clause
"""The published benchmarks that cost profiles are solved from, replayed on the composed model: the real functions in a
published loop give the published figure back, so nothing is charged twice and nothing is left out."""

from fractions import Fraction
from itertools import chain

import pytest

from driver_model.cpu.profile import Profile
from tests.driver_model.calibration import mvneta, pages, pmd, pools, primitives, skbs, slab, stack, udp_sink, xdp

TOLERANCE = Fraction(3, 100)
REPLAYED = [part.REPLAYS for part in (primitives, pages, pools, slab, skbs, xdp, stack, udp_sink, pmd, mvneta)]
#: How each benchmark is replayed, by its name, which is the same for the same loop on any machine.
REPLAYS = {name: replay for replays in REPLAYED for name, replay in replays.items()}

PROFILES = {name: Profile.load(name) for name in Profile.names()}
PUBLISHED = {
    (name, benchmark.name): benchmark for name, profile in PROFILES.items() for benchmark in profile.benchmarks
}


def test_every_benchmark_is_replayed_in_one_way() -> None:
    known = list(chain.from_iterable(REPLAYED))
    assert len(set(known)) == len(known)
    assert set(known) == {name for _, name in PUBLISHED}


@pytest.mark.parametrize(("profile", "name"), PUBLISHED)
def test_a_benchmark_gives_its_figure(profile: str, name: str) -> None:
    turn, published = REPLAYS[name](PROFILES[profile]), PUBLISHED[profile, name].ps
    assert abs(turn / published - 1) < TOLERANCE, f"{float(turn):.0f} ps, not {float(published):.0f}"
