# SPDX-License-Identifier: BSD-2-Clause
"""The harness gives every port of the cores a register, or the port that it is linked to."""

import re

import pytest

from synth.designs import DESIGNS
from synth.harness import Port, harness

A = [Port("a", "question", 3, output=True), Port("a", "answer", 5, output=False)]
B = [Port("b", "question", 3, output=False), Port("b", "answer", 5, output=True), Port("b", "flag", 1, output=True)]
CORES = {"a": ("one", A), "b": ("other", B)}


def test_free_ports_are_registered():
    text = harness({"a": ("one", A)})
    assert "reg [4:0] stimulus" in text
    assert "reg [2:0] response, shifted" in text
    assert "assign {a_answer} = stimulus" in text
    assert "response <= {a_question}" in text
    assert "one a(.clk(clk), .rst(rst), .question(a_question), .answer(a_answer));" in text


def test_linked_ports_are_wired_and_take_no_register():
    text = harness(
        CORES | {"c": ("third", [Port("c", "in", 2, output=False)])},
        [("a_question", "b_question"), ("b_answer", "a_answer")],
    )
    assert "reg [1:0] stimulus" in text
    assert "response <= {b_flag}" in text
    assert "one a(.clk(clk), .rst(rst), .question(a_question), .answer(b_answer));" in text
    assert "other b(.clk(clk), .rst(rst), .question(a_question), .answer(b_answer), .flag(b_flag));" in text
    assert "wire [4:0] a_answer" not in text


@pytest.mark.parametrize("link", [("b_question", "a_question"), ("a_question", "b_nothing"), ("b_answer", "b_flag")])
def test_a_link_leads_from_an_output_to_an_input(link):
    with pytest.raises(ValueError, match="from an output to an input"):
        harness(CORES, [link])


def test_a_link_joins_one_width():
    with pytest.raises(ValueError, match="one width, not 'b_flag' and 'a_answer'"):
        harness(CORES, [("b_flag", "a_answer")])


def test_the_iommu_takes_every_channel_of_the_nic():
    design = DESIGNS["nic-iommu-10g"]
    wires = dict(design.wires)
    axi = [port for port in design.ports["nic"][1] if port.name.startswith("m_axi_")]
    assert {port.wire for port in axi} == {w for pair in wires.items() for w in pair if w.startswith("nic_")}
    assert wires["nic_m_axi_awaddr"] == "iommu_s_axi_awaddr"
    assert wires["iommu_s_axi_rdata"] == "nic_m_axi_rdata"


@pytest.mark.parametrize("name", DESIGNS)
def test_every_instance_names_all_ports_of_its_core(name):
    design = DESIGNS[name]
    text = harness(design.ports, design.wires)
    for instance, (module, ports) in design.ports.items():
        joined = re.search(rf"^  {module} {instance}\((.*)\);$", text, re.MULTILINE)
        assert joined is not None
        assert set(re.findall(r"\.(\w+)\(", joined[1])) == {"clk", "rst", *(port.name for port in ports)}
