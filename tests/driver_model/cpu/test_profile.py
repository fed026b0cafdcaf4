# SPDX-License-Identifier: BSD-2-Clause
"""Cost profiles: solved from benchmarks, replayed, borrowed from each other."""

import hashlib
from fractions import Fraction
from pathlib import Path

import pytest

from driver_model.cpu.core import Core
from driver_model.cpu.profile import Profile, ProfileError
from driver_model.cpu.system import System
from tests.driver_model.cpu.machine import run
from tests.driver_model.cpu.profiles import LATER, PAIR, assumption, borrow, profile_text
from tests.driver_model.fake_platform import FakePlatform

TURNS = 64_000
SOLVED = [name for name in Profile.names() if not Profile.load(name).composed]
COMPOSED = ["budget-3ghz", "e5-2690v3"]  #: nothing is published of these machines' own operations


@pytest.mark.parametrize("name", SOLVED)
def test_every_benchmark_replayed_on_a_core_gives_its_figure(name: str) -> None:
    profile = Profile.load(name)
    assert profile.benchmarks
    for benchmark in profile.benchmarks:
        platform = FakePlatform()
        core = Core(platform, 0, profile)

        def loop(core: Core = core, benchmark=benchmark) -> int:
            start = core.time
            for operation, count in benchmark.loop.items():
                times = count * TURNS
                assert times.denominator == 1, f"{benchmark.name} does not come out even over {TURNS} turns"
                core.spend(core.op(operation), int(times))
            core.sync()
            return core.time - start

        turn = Fraction(run(platform, core, loop, limit=10**12), TURNS)
        assert abs(turn / benchmark.ps - 1) < Fraction(3, 100), benchmark.name


def test_every_profile_has_a_cost_for_every_operation() -> None:
    assert [Profile.load(name).name for name in Profile.names()] == Profile.names()
    operations = {name: set(Profile.load(name).costs) for name in Profile.names()}
    known = set().union(*operations.values())
    assert {name: known - has for name, has in operations.items()} == {name: set() for name in operations}


def test_names_of_benchmarks_are_unique_within_a_profile() -> None:
    for name in Profile.names():
        benchmarks = [benchmark.name for benchmark in Profile.load(name).benchmarks]
        assert len(set(benchmarks)) == len(benchmarks), name


def test_profiles_that_are_composed_say_so_and_define_nothing() -> None:
    composed = [Profile.load(name) for name in COMPOSED]
    assert [profile.name for profile in composed] == [name for name in Profile.names() if name not in SOLVED]
    for profile in composed:
        assert profile.benchmarks == ()
        assert all(cost.origin.startswith(f"borrowed from {cost.lender}: ") for cost in profile.costs.values())
    budget = Profile.load("budget-3ghz")
    assert (budget.khz, "composed" in budget.machine) == (3_000_000, True)
    pages = budget.costs["page.alloc"].ps(budget.khz) + budget.costs["page.free"].ps(budget.khz)
    assert pages == Fraction(272 * 1000, 3)
    assert budget.costs["cache.miss"].ns == Profile.load("e5-1650v4").costs["cache.miss"].ns


def test_the_machine_of_the_cortex_a53_is_not_coherent() -> None:
    assert [name for name in Profile.names() if not Profile.load(name).coherent] == ["cortex-a53"]


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
    base = Profile(profile_text(PAIR)).costs
    later = Profile(profile_text(PAIR + LATER)).costs
    assert {name: later[name] for name in base} == base
    assert later["slow"].cycles == 100 - 60
    assert later["wait"].ns == Fraction("22.5")


def test_known_operations_leave_something_to_be_solved_for() -> None:
    with pytest.raises(ProfileError, match="'slow': known operations take 60000 of 50000 ps"):
        Profile(profile_text(PAIR + LATER.replace("100", "50")))


# Borrowing


def folder_of(folder: Path, **texts: str) -> Path:
    """A folder of profiles, each a text without its head."""
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(profile_text(text, name=name), encoding="utf-8")
    return folder


def test_borrowed_cycles_stay_cycles_and_nanoseconds_stay_nanoseconds(tmp_path: Path) -> None:
    folder_of(tmp_path, fast=PAIR + assumption("nap", "ns = 7"))
    slow = Profile(profile_text(borrow("fast", '"alloc", "nap"'), khz="500_000"), folder=tmp_path)
    assert list(slow.costs) == ["alloc", "nap"]
    assert (slow.ps("alloc"), slow.ps("nap")) == (40_000, 7000)
    alloc, nap = slow.costs.values()
    assert (alloc.origin, alloc.assumed) == ("borrowed from fast: a similar core; there pair", False)
    assert (nap.origin, nap.assumed) == ("borrowed from fast: a similar core; there assumption: a guess", True)
    assert (alloc.lender, nap.lender) == ("fast", "fast")
    assert slow.composed


def test_a_profiles_own_figures_come_before_borrowed_ones_and_these_in_their_order(tmp_path: Path) -> None:
    folder_of(
        tmp_path,
        first=assumption("a", "cycles = 1") + assumption("b", "cycles = 1"),
        second=assumption("a", "cycles = 2") + assumption("b", "cycles = 2") + assumption("c", "cycles = 2"),
    )
    own = assumption("a", "cycles = 3") + borrow("first", '"a", "b"') + borrow("second", '"*"')
    costs = Profile(profile_text(own), folder=tmp_path).costs
    assert {name: (cost.cycles, cost.lender) for name, cost in costs.items()} == {
        "a": (3, ""),
        "b": (1, "first"),
        "c": (2, "second"),
    }


def test_only_what_a_lender_itself_defines_can_be_borrowed_from_it(tmp_path: Path) -> None:
    folder_of(
        tmp_path,
        origin=assumption("a", "cycles = 1"),
        between=assumption("b", "cycles = 2") + borrow("origin", '"*"'),
    )
    profile = Profile(profile_text(borrow("between", '"*"') + borrow("origin", '"*"')), folder=tmp_path)
    assert {name: cost.lender for name, cost in profile.costs.items()} == {"b": "between", "a": "origin"}
    with pytest.raises(ProfileError, match="between itself defines nothing that is 'a'"):
        Profile(profile_text(borrow("between", '"a"')), folder=tmp_path)


def test_a_benchmark_is_solved_with_what_is_borrowed_at_its_machines_clock(tmp_path: Path) -> None:
    folder_of(tmp_path, other=assumption("known", "cycles = 10"))
    own = '[[benchmark]]\nname = "b"\nloop = { known = 2, x = 1 }\nsplit = { x = 1 }\nns = 100\nsource = "s"\n'
    slow = Profile(profile_text(own + borrow("other", '"known"'), khz="500_000"), folder=tmp_path)
    assert slow.costs["x"].cycles == 50 - 20


def test_profiles_may_borrow_from_each_other_but_no_operation_from_itself(tmp_path: Path) -> None:
    solved = '[[benchmark]]\nname = "b"\nloop = { lent = 1, own = 1 }\nsplit = { own = 1 }\ncycles = 9\nsource = "s"\n'
    folder_of(
        tmp_path,
        one=solved + assumption("base", "cycles = 4") + borrow("two", '"lent"'),
        two=assumption("lent", "cycles = 2") + borrow("one", '"*"'),
    )
    assert Profile.load("one", tmp_path).costs["own"].cycles == 7
    assert list(Profile.load("two", tmp_path).costs) == ["lent", "base", "own"]
    circle = solved.replace("own", "lent_").replace("lent =", "own =").replace("lent_", "lent")
    folder_of(tmp_path, three=solved + borrow("four", '"lent"'), four=circle + borrow("three", '"own"'))
    message = "'own' depends on itself: own of three <- lent of three <- lent of four <- own of four <- own of three"
    with pytest.raises(ProfileError, match=message):
        Profile.load("three", tmp_path)


def test_a_digest_covers_what_was_borrowed_from(tmp_path: Path) -> None:
    text = profile_text(assumption("a", "cycles = 1"))
    assert Profile(text).digest == hashlib.sha256(text.encode()).hexdigest()
    digests = set()
    for cost in ("cycles = 1", "cycles = 2"):
        folder = tmp_path / cost[-1]
        folder.mkdir()
        folder_of(folder, other=assumption("b", cost), more=assumption("c", cost))
        profile = Profile(profile_text(borrow("other", '"b"') + borrow("more", '"c"')), folder=folder)
        turned = Profile(profile_text(borrow("other", '"b"') + borrow("more", '"c"')), folder=folder)
        assert profile.digest == turned.digest
        digests.add(profile.digest)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (borrow("nobody", '"*"'), "profile: borrow: Profile must be one of other, not 'nobody'"),
        (borrow("other", '"lent", "nap.*"'), r"other itself defines nothing that is 'nap\.\*'"),
        (
            PAIR.replace("free = 2 }\nsplit", "free = 2, gone = 1 }\nsplit") + borrow("other", '"*"'),
            "'gone' has no cost",
        ),
        (
            '[[check]]\nname = "c"\nloop = { gone = 1 }\nns = 1\nsource = "s"\n',
            "profile: 'c' uses 'gone', which has no cost",
        ),
    ],
)
def test_what_cannot_be_borrowed_is_refused(entries: str, message: str, tmp_path: Path) -> None:
    folder_of(tmp_path, other=assumption("lent", "cycles = 2"))
    with pytest.raises(ProfileError, match=message):
        Profile(profile_text(entries), folder=tmp_path)


def test_at_another_clock_cycles_take_another_time_and_nanoseconds_do_not() -> None:
    profile = Profile.load("e5-1650v4")
    faster = profile.clocked(4_000_000)
    assert (faster.khz, profile.khz) == (4_000_000, 3_600_000)
    assert (faster.name, faster.digest) == (profile.name, profile.digest)
    assert (profile.ps("skb.clear"), faster.ps("skb.clear")) == (round(43e3 / 3.6), round(43e3 / 4))
    assert profile.ps("cache.miss") == faster.ps("cache.miss") == 32_000


@pytest.mark.parametrize(("khz", "kind"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_clock_that_is_none_is_refused(khz: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="khz must be"):
        Profile.load("e5-1650v4").clocked(khz)


def test_without_ddio_the_first_touch_of_what_a_device_wrote_misses() -> None:
    lines = {}
    for name in ("i7-4790k", "e5-1650v4"):
        (core,) = System(FakePlatform(), Profile.load(name)).cores
        lines[name] = core.device_line.name
    assert lines == {"i7-4790k": "cache.miss", "e5-1650v4": "llc.hit"}
    (core,) = System(FakePlatform(), Profile.load("i7-4790k"), ddio=True).cores
    assert core.device_line.name == "llc.hit"
