# SPDX-License-Identifier: BSD-2-Clause
"""Cost profiles: solved from benchmarks, replayed, and refused where they contradict themselves."""

from fractions import Fraction

import pytest

from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile, ProfileError
from tests.driver_model.cpu.machine import run
from tests.driver_model.fake_platform import FakePlatform

TURNS = 64_000


@pytest.mark.parametrize("name", Profile.names())
def test_every_benchmark_replayed_on_a_core_gives_its_figure(name: str) -> None:
    profile = Profile.load(name)
    assert profile.benchmarks
    for benchmark in profile.benchmarks:
        platform = FakePlatform()
        core = Core(platform, 0, profile)

        def loop(core: Core = core, benchmark=benchmark) -> int:
            start = core.time
            for primitive, count in benchmark.loop.items():
                times = count * TURNS
                assert times.denominator == 1, f"{benchmark.name} does not come out even over {TURNS} turns"
                core.spend(core.op(primitive), int(times))
            core.sync()
            return core.time - start

        turn = Fraction(run(platform, core, loop), TURNS)
        assert abs(turn / benchmark.ps - 1) < Fraction(3, 100), benchmark.name


def test_costs_tell_where_they_come_from() -> None:
    profile = Profile.load("e5-1650v4")
    assert profile.costs["page_pool.alloc_fast"].origin == "page_pool, fast"
    assert not profile.costs["page_pool.alloc_fast"].assumed
    assert profile.costs["irq.entry"].assumed
    assert len(profile.digest) == 64
    pair = profile.costs["page.alloc"].cycles + profile.costs["page.free"].cycles
    assert pair == 207


def test_a_cores_clock_scales_cycles_and_not_nanoseconds() -> None:
    profile = Profile.load("e5-1650v4")
    assert profile.costs["page.alloc"].ps(1_800_000) == 2 * profile.costs["page.alloc"].ps(3_600_000)
    assert profile.costs["cache.miss"].ps(1_800_000) == profile.costs["cache.miss"].ps(3_600_000) == 32_000


def test_removing_a_source_removes_what_was_solved_from_it() -> None:
    base = Profile(profile_text(benchmark=PAIR)).costs
    later = Profile(profile_text(benchmark=PAIR + LATER)).costs
    assert {name: later[name] for name in base} == base
    assert later["slow"].cycles == 100 - 60
    assert later["wait"].ns == Fraction("22.5")


PAIR = """
[[benchmark]]
name = "pair"
loop = { alloc = 1, free = 2 }
split = { alloc = 1, free = 2 }
cycles = 60
source = "a paper"
"""

LATER = """
[[benchmark]]
name = "slow"
loop = { alloc = 1, free = 2, slow = 1 }
cycles = 100
source = "a paper"

[[benchmark]]
name = "wait"
loop = { slow = 1, wait = 1 }
mpps = 16
solve_for = "ns"
source = "a paper: 62.5 ns, of which slow takes 40 cycles at 1 GHz; 22.5 remain"
"""


def profile_text(benchmark: str = "", khz: str = "1_000_000") -> str:
    """A profile of a core at 1 GHz."""
    return f'name = "x"\nmachine = "y"\nfrequency_khz = {khz}\n{benchmark}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "profile: Invalid value"),
        ('name = "x"\nmachine = "y"', "profile lacks 'frequency_khz'"),
        (profile_text(khz="0"), "frequency_khz must be a positive integer, not 0"),
        (profile_text(khz='1\ncoherent = "no"'), "coherent must be true or false, not 'no'"),
        (profile_text(khz="1\nturbo = 1"), "profile has an unknown entry 'turbo'; known are "),
        (profile_text('[[assumption]]\nname = "a"\ncycles = 1'), "assumption 'a' lacks 'reason'"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"'), "assumption 'a' must give cycles or ns"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"\nns = -1'), "ns must be at least 0, not -1"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"\nns = "1"'), "ns must be a number, not '1'"),
        (profile_text(PAIR + PAIR), "benchmark 'pair' has no unknown primitive: make it a check"),
        (profile_text(PAIR.replace("split", "ns = 1\nsplit")), "must give its result in one of cycles, ns and mpps"),
        (profile_text(PAIR.replace("split = { alloc = 1, free = 2 }", "")), "must split alloc, free, not "),
        (profile_text(PAIR.replace("cycles = 60", "cycles = 0")), "cycles must not be 0"),
        (profile_text(PAIR + LATER.replace("100", "50")), "'slow': known primitives take 60000 of 50000 ps"),
        (profile_text(PAIR + LATER.replace('"ns"', '"pages"')), "solve_for must be cycles or ns, not 'pages'"),
        (profile_text(PAIR + LATER.replace("slow = 1 }", "slow = 0 }")), "cannot be solved for 'slow'"),
        (profile_text(PAIR.replace("benchmark", "check").replace("split = { alloc = 1, free = 2 }", "")), "no cost"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"\nns = 1\n' * 2), "'a' already has a cost"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        Profile(text)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="Profile must be one of .*e5-1650v4.*, not 'pentium'"):
        Profile.load("pentium")


def test_a_machine_is_coherent_unless_its_profile_says_otherwise() -> None:
    assert Profile(profile_text()).coherent
    assert not Profile(profile_text(khz="1\ncoherent = false")).coherent
