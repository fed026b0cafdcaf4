# SPDX-License-Identifier: BSD-2-Clause
from fractions import Fraction

import pytest

from hw.config import preset
from sim.experiments.ceiling import ceilings, demands, link_bytes
from sim.host.link_config import link_preset
from sim.traffic.pacing import LineRate

NIC = preset("10g")
LINE = LineRate(10_000_000_000, NIC.clock_khz)


def bounds(lengths, *, link="gen3-x8", transmit=False):
    return ceilings(NIC, link_preset(link), LINE, lengths, transmit=transmit)


def test_64_byte_frames_at_10g_are_bound_by_the_wire():
    found = bounds({60: 1})
    assert found["wire"] == Fraction(10**10, 8 * 84)
    assert found["stream"] == Fraction(156_250_000, 8)
    assert found["axi"] == Fraction(156_250_000, 10)  # 8 beats of data, 2 of a quarter of four completions
    assert min(found, key=found.get) == "wire"


def test_the_link_counts_headers():
    # Up: 60 + 24 bytes of data, a quarter of 64 + 24 bytes of completions, 1/32 of a request of 24 bytes.
    assert bounds({60: 1})["link"] == Fraction(57_880_000_000, 8) / (84 + 22 + Fraction(24, 32))


@pytest.mark.parametrize(("length", "offset", "asked"), [(64, 0, 64), (65, 0, 72), (60, 4, 60), (60, 5, 67)])
def test_reads_ask_the_link_for_whole_beats(length, offset, asked):
    up, down = link_bytes(NIC, link_preset("gen3-x8"), {length: 1}, receive=False, transmit=True, offset=offset)
    # With a share of a read of 512 bytes of descriptors, answered in two packets.
    assert (up, down) == (24 + Fraction(24, 32), asked + 20 + 16 + Fraction(2 * 20, 32))


def test_beats_of_a_wider_link_are_its_own():
    ways = {"receive": False, "transmit": True, "offset": 256}
    narrow, wide = (
        link_bytes(NIC, link_preset("gen3-x8"), {68: 1}, **ways, host_width=width)[1] for width in (64, 512)
    )
    assert wide - narrow == 128 - 72


def test_wires_bound_nothing():
    assert "link" not in bounds({60: 1}, link="on-chip")


def test_transmission_needs_more():
    for name in ("axi", "link"):
        assert bounds({1514: 1}, transmit=True)[name] <= bounds({1514: 1})[name]
    assert bounds({60: 1}, transmit=True)["axi"] == Fraction(156_250_000, 12)


def test_a_mix_is_bound_by_its_total():
    found = bounds({60: 7, 590: 4, 1514: 1})
    assert found["wire"] == Fraction(12 * 10**10, 8 * (7 * 84 + 4 * 614 + 1538))


def test_nothing_has_no_ceiling():
    with pytest.raises(ValueError, match="at least one frame, not {}"):
        bounds({})


def test_each_direction_needs_its_own_beats():
    def axi(**how):
        return ceilings(NIC, link_preset("on-chip"), LINE, {60: 1}, **how)["axi"] / Fraction(156_250_000)

    assert axi(receive=True, transmit=False) == Fraction(1, 10)
    assert axi(receive=False, transmit=True) == Fraction(1, 10)
    assert axi(receive=True, transmit=True) == Fraction(1, 12)
    assert axi(receive=True, transmit=False, offset=5) == Fraction(1, 11)  # 60 bytes from lane 5 on touch 9 beats


def test_demands_add_up_by_channel():
    def each(**ways):
        return demands(NIC, link_preset("gen3-x8"), LINE, {60: 1}, **ways)

    received, sent = each(receive=True, transmit=False), each(receive=False, transmit=True)
    assert {name: received[name] for name in ("wire_rx", "stream_rx", "axi_write", "axi_read")} == {
        "wire_rx": Fraction(21, 2),
        "stream_rx": 8,
        "axi_write": 10,
        "axi_read": 2,
    }
    assert "axi_write" not in sent
    assert each(receive=True, transmit=True) == {
        name: received.get(name, 0) + sent.get(name, 0) for name in {**received, **sent}
    }
