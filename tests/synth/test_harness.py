# SPDX-License-Identifier: BSD-2-Clause
"""The harness gives every port of the cores a register, or the port that it is linked to."""

import pytest

from synth.designs import DESIGNS
from synth.harness import Port, harness, ports_of

A = [Port("a", "question", 3, output=True), Port("a", "answer", 5, output=False)]
B = [Port("b", "question", 3, output=False), Port("b", "answer", 5, output=True), Port("b", "flag", 1, output=True)]
CORES = {"a": ("one", A), "b": ("other", B)}


def test_free_ports_are_registered():
    text, takes = harness({"a": ("one", A)})
    assert takes == {"ff": 1 + 5 + 2 * 3, "lut": 3}
    assert "reg [4:0] stimulus" in text
    assert "reg [2:0] response, shifted" in text
    assert "assign {a_answer} = stimulus" in text
    assert "response <= {a_question}" in text
    assert "one a(.clk(clk), .rst(rst), .question(a_question), .answer(a_answer));" in text


def test_linked_ports_are_wired_and_take_no_register():
    text, takes = harness(
        CORES | {"c": ("third", [Port("c", "in", 2, output=False)])},
        [("a_question", "b_question"), ("b_answer", "a_answer")],
    )
    assert takes == {"ff": 1 + 2 + 2 * 1, "lut": 1}
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


VERILOG = """
module inner(clk, port);
  input clk;
  input port;
endmodule
module core(clk, rst, wide, one);
  input clk;
  wire clk;
  input rst;
  input [63:0] wide;
  wire [63:0] wide;
  output one;
endmodule
"""


def test_ports_are_those_of_the_module_without_clock_and_reset():
    assert ports_of("i", VERILOG, "core") == [Port("i", "wide", 64, output=False), Port("i", "one", 1, output=True)]


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no module 'other'"):
        ports_of("i", VERILOG, "other")


def test_every_channel_between_linked_cores_is_wired():
    nic = [Port("nic", "m_axi_awaddr", 64, output=True), Port("nic", "m_axi_rdata", 64, output=False)]
    iommu = [Port("iommu", "s_axi_awaddr", 64, output=False), Port("iommu", "s_axi_rdata", 64, output=True)]
    cores = {"nic": ("one", [*nic, Port("nic", "carrier", 1, output=False)]), "iommu": ("other", iommu)}
    assert DESIGNS["nic-iommu-10g"].wires(cores) == [
        ("nic_m_axi_awaddr", "iommu_s_axi_awaddr"),
        ("iommu_s_axi_rdata", "nic_m_axi_rdata"),
    ]
