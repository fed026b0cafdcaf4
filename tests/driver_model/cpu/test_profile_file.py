# SPDX-License-Identifier: BSD-2-Clause
"""Files of cost profiles: what they say, and what is refused before anything is solved."""

from fractions import Fraction

import pytest

from driver_model.cpu.profile_file import ProfileError, ProfileFile
from tests.driver_model.cpu.profiles import BORROW, LATER, PAIR, profile_text


def test_a_file_says_what_it_defines_and_from_what() -> None:
    file = ProfileFile(profile_text('[[assumption]]\nname = "a"\nns = 1.5\nreason = "r"\n' + PAIR + LATER + BORROW))
    assert (file.name, file.machine, file.khz, file.coherent) == ("x", "y", 1_000_000, True)
    assert file.defined == ["a", "alloc", "free", "slow", "wait"]
    assert file.assumptions["a"].ns == Fraction(3, 2)
    assert file.solved["alloc"] is file.solved["free"]
    pair = file.solved["alloc"]
    assert (pair.value, pair.unit, pair.ps, pair.source, pair.note) == (60, "cycles", 60_000, "a paper", "hot")
    assert (pair.split, pair.is_check) == ({"alloc": 1, "free": 2}, False)
    assert [benchmark.name for benchmark in file.benchmarks] == ["pair", "slow", "wait"]
    (borrow,) = file.borrows
    assert borrow.covers("iova.alloc")
    assert borrow.covers("nap")
    assert not borrow.covers("napi.poll")


def test_a_machine_whose_devices_do_not_see_its_caches_says_so() -> None:
    assert not ProfileFile(profile_text(khz="1\ncoherent = false")).coherent


def test_a_machine_whose_devices_write_to_memory_says_so() -> None:
    assert ProfileFile(profile_text(khz="1")).ddio
    assert not ProfileFile(profile_text(khz="1\nddio = false")).ddio


def test_a_benchmark_beside_borrowed_operations_names_what_it_is_solved_for() -> None:
    loop = PAIR.replace("free = 2 }\nsplit", "free = 2, nap = 1 }\nsplit")
    assert ProfileFile(profile_text(loop + BORROW)).defined == ["alloc", "free"]
    with pytest.raises(ProfileError, match="must split alloc, free, nap, not alloc, free"):
        ProfileFile(profile_text(loop))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "profile: Invalid value"),
        ('name = "x"\nmachine = "y"', "profile lacks 'frequency_khz'"),
        (profile_text(khz="0"), "frequency_khz must be a positive integer, not 0"),
        (profile_text(khz='1\ncoherent = "no"'), "coherent must be true or false, not 'no'"),
        (profile_text(khz="1\nddio = 0"), "ddio must be true or false, not 0"),
        (profile_text(khz="1\nturbo = 1"), "profile has an unknown entry 'turbo'; known are "),
        (profile_text('[[assumption]]\nname = "a"\ncycles = 1'), "assumption 'a' lacks 'reason'"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"'), "assumption 'a' must give cycles or ns"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"\nns = -1'), "ns must be at least 0, not -1"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"\nns = "1"'), "ns must be a number, not '1'"),
        (profile_text('[[assumption]]\nname = "a"\nreason = "r"\nns = 1\n' * 2), "'a' already has a cost"),
        (profile_text(PAIR + PAIR), "benchmark 'pair' has no unknown operation: make it a check"),
        (profile_text(PAIR + PAIR.replace("{ ", "{ more = 1, ")), "'alloc' already has a cost"),
        (profile_text(PAIR.replace("split", "ns = 1\nsplit")), "must give its result in one of cycles, ns and mpps"),
        (profile_text(PAIR.replace("split = { alloc = 1, free = 2 }", "")), "must split alloc, free, not "),
        (
            profile_text(PAIR.replace("split = { ", "split = { nap = 1, ")),
            "must split alloc, free, not nap, alloc, free",
        ),
        (profile_text(PAIR.replace("cycles = 60", "cycles = 0")), "cycles must not be 0"),
        (profile_text(PAIR.replace("a paper", "")), "source must say where it is published"),
        (profile_text(PAIR + LATER.replace('"ns"', '"pages"')), "solve_for must be cycles or ns, not 'pages'"),
        (profile_text(PAIR + LATER.replace("2, slow = 1 }", "2, slow = 0 }")), "cannot be solved for 'slow'"),
        (
            profile_text(PAIR + LATER.replace("{ slow = 1 }", "{ slow = 0 }")),
            "'slow': a share of split must be above 0",
        ),
        (profile_text(BORROW.replace("reason", "because")), "borrow from 'other' has an unknown entry 'because'"),
        (profile_text(BORROW.replace('"other"', '"x"')), "borrow from 'x' is from itself"),
        (profile_text(BORROW.replace('["iova.*", "nap"]', '"*"')), "operations must be a list of names or patterns"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        ProfileFile(text)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="Profile must be one of .*e5-1650v4.*, not 'pentium'"):
        ProfileFile.read("pentium")
