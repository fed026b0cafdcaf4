# SPDX-License-Identifier: BSD-2-Clause
"""Policies that cannot be are refused."""

from typing import Any

import pytest

from driver_model.net.skb.policy import POLICY_2016, Clearing, Head, HeadMemory, NapiCache, Place, SkbPolicy


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"place": Place.HEADROOM, "head": Head.COPY}, "place must be slab where head is copy"),
        ({"bulk_heads": True, "head_memory": HeadMemory.FRAGMENT}, "bulk_heads needs head_memory kmalloc, not"),
        ({"clearing": Clearing.BULK, "napi_cache": NapiCache.OFF}, "clearing bulk needs napi_cache reuse, not"),
    ],
)
def test_contradictions(policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SkbPolicy(**policy)


@pytest.mark.parametrize("name", ["head", "place", "clearing", "napi_cache", "head_memory", "delay"])
def test_a_name_is_no_choice(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name} must be a \w+, not 'memset'"):
        SkbPolicy(**{name: "memset"})


def test_the_kernels_of_2016() -> None:
    assert POLICY_2016.head is Head.COPY
    assert POLICY_2016.napi_cache is NapiCache.OFF
    assert POLICY_2016.head_memory is HeadMemory.FRAGMENT
    assert not POLICY_2016.bulk_lists
