# SPDX-License-Identifier: BSD-2-Clause
"""Published figures to compare with: what they say, and that none of them is fed in."""

import tomllib

import pytest

from driver_model.cpu.profile import Profile
from sim.experiments.fit import Fit
from sim.experiments.published import FOLDER, Figure, PublishedError, figure, published, read_figures

ENTRY = '[[figure]]\nid = "a.b"\nunit = "ns"\nmachine = "m"\nsource = "s, {}"\n'


def test_a_series_is_a_figure_for_each_key():
    one, two = read_figures(ENTRY + "note = 'hot'\nvalues = { 1 = 4, many = 2.5 }")
    assert one == Figure("a.b.1", 4.0, "ns", "m", "s, 1", recalled=False, note="hot")
    assert (two.id, two.value, two.source) == ("a.b.many", 2.5, "s, many")


def test_a_recalled_figure_says_so():
    (only,) = read_figures(ENTRY + "recalled = true\nvalue = 4")
    assert (only.id, only.recalled) == ("a.b", True)
    assert figure("iommu.riommu.strict.map").recalled
    assert not figure("forward.bulk_free.after").recalled


def test_figures_are_found_by_their_id():
    assert figure("slub.bulk.32").value == 58
    assert figure("slub.bulk.32").source == "Linux fbd02630c6e3, this patch, bulk of 32"
    with pytest.raises(KeyError, match="No published figure is called 'slub.bulk.33'; there are .*slub.bulk.34"):
        figure("slub.bulk.33")


def inputs():
    """What is fed in: benchmarks of the profiles, by name, with source and value; sources and inputs of fits."""
    for name in Profile.names():
        for benchmark in Profile.load(name).benchmarks:
            yield benchmark.name, benchmark.source, float(benchmark.value)


def test_no_published_figure_is_fed_in():
    fed = {(source, value) for _, source, value in inputs()}
    assert fed
    assert [each.id for each in published().values() if (each.source, each.value) in fed] == []
    names = {name for name, _, _ in inputs()}
    assert sorted(names & set(published())) == []
    sources = {source for _, source, _ in inputs()}
    assert [each.id for each in published().values() if each.source in sources] == []
    fits = {Fit.load_file(name).source for name in Fit.names()}
    assert [each.id for each in published().values() if each.source in fits] == []


def test_no_source_is_given_twice():
    sources = [each.source for each in published().values()]
    assert sorted({source for source in sources if sources.count(source) > 1}) == []


def test_a_machine_is_a_profile_or_described():
    for each in published().values():
        assert each.machine in Profile.names() or " " in each.machine or each.machine == "any", each.id


def test_all_files_are_read():
    texts = [tomllib.loads(path.read_text()) for path in FOLDER.glob("*.toml")]
    assert texts
    assert sum(len(entry.get("values", [0])) for text in texts for entry in text["figure"]) == len(published())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[figure", "figures: "),
        ("[[figures]]", "figures must have entries figure and nothing else, not figures"),
        ("", "figures must have entries figure and nothing else, not nothing"),
        (ENTRY, "figure 'a.b' must have either value or values"),
        (ENTRY + "value = 1\nvalues = {}", "must have either value or values"),
        (ENTRY + "value = true", "the value of a.b must be a number, not True"),
        (ENTRY + 'values = { 1 = "2" }', "the value of a.b.1 must be a number, not '2'"),
        (ENTRY + "value = 1\nkind = 1", "figure 'a.b' has an unknown entry 'kind'; known are id, machine"),
        (ENTRY.replace("machine", "note") + "value = 1", "figure 'a.b' lacks 'machine'"),
        (ENTRY.replace('"s, {}"', '""') + "value = 1", "figure 'a.b' lacks 'source'"),
    ],
)
def test_what_is_left_open_is_refused(text, message):
    with pytest.raises(PublishedError, match=message):
        read_figures(text)
