# SPDX-License-Identifier: BSD-2-Clause
"""Fits: what a file must hold, and that predictions do not go into the model."""

import re

import pytest

from hw.config import CacheConfig
from sim.experiments.fit import FOLDER, Fit, FitError
from sim.host.dram_config import DramConfig

TEXT = """
name = "try"
machine = "one"
source = "nowhere"
windows = [4, 8]
[[input]]
request = "read64"
bandwidth = 30.0
[structure]
iommu = { walks = 5, tlb_4k.sets = 4, tlb_4k.ways = 7 }
dram = { walker_latency_ns = 99.0 }
load = { ids = 2, outstanding = 9 }
[[curve]]
request = "read64"
pages = "4K"
quantity = "bandwidth"
kind = "fit"
values = [1.0, 2.0]
[[curve]]
request = "read64"
pages = "4K"
quantity = "latency"
kind = "prediction"
windows = [16]
values = [3.0]
"""


def test_a_fit_gives_structure_inputs_and_curves() -> None:
    fit = Fit(TEXT)
    assert (fit.iommu.walks, fit.iommu.tlb_4k) == (5, CacheConfig(4, 7))
    assert fit.dram(DramConfig(outstanding=17)) == DramConfig(outstanding=17, walker_latency_ns=99.0)
    assert fit.load == {"ids": 2, "outstanding": 9}
    assert fit.inputs == {"read64": 30.0}
    assert fit.windows == (4096, 8192)
    curve = fit.curve("read64", "4K", "latency")
    assert curve is not None
    assert (curve.kind, curve.values) == ("prediction", {16384: 3.0})
    assert fit.curve("read64", "2M", "latency") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("walks = 5", "walkers = 5", "IommuConfig has no parameter 'walkers'"),
        ("walker_latency_ns", "latency", "DramConfig has no parameter 'latency'"),
        ("outstanding = 9", "count = 9", "structure: load has an unknown entry 'count'"),
        ('machine = "one"', "", "fit lacks 'machine'"),
        ('machine = "one"', 'machine = "one"\nextra = 1', "fit has an unknown entry 'extra'"),
        ('kind = "fit"', 'kind = "guess"', "kind must be one of input, fit, prediction, check, not 'guess'"),
        ("values = [1.0, 2.0]", "values = [1.0]", "2 windows have 1 values"),
        ('quantity = "latency"', "", "curve of None of 'read64' lacks 'quantity'"),
        ("[structure]", "[structure", "fit: "),
    ],
)
def test_what_is_wrong_in_a_fit_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(FitError, match=re.escape(message)):
        Fit(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("name", Fit.names())
def test_predictions_do_not_go_into_the_model(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text()
    head, *curves = text.split("[[curve]]")
    kept = [curve for curve in curves if 'kind = "prediction"' not in curve]
    assert 0 < len(kept) < len(curves)
    whole, without = Fit(text), Fit("[[curve]]".join([head, *kept]))
    assert whole.name == name
    assert (without.iommu, without.dram(DramConfig()), without.load, without.inputs, without.windows) == (
        whole.iommu,
        whole.dram(DramConfig()),
        whole.load,
        whole.inputs,
        whole.windows,
    )


def test_a_fit_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="Fit must be one of .*pcie-bench-broadwell.*, not 'nothing'"):
        Fit.load_file("nothing")
