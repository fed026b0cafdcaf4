# SPDX-License-Identifier: BSD-2-Clause
import pytest

from sim.trace.gtkw import Variable, variables, write_save_file

HEADER = """$timescale 1ps $end
$scope module bench $end
 $scope module machine $end
  $var wire 1 ! clk $end
  $scope module player $end
   $var wire 1 " wire__valid $end
   $var wire 64 # wire__payload.data [63:0] $end
  $upscope $end
  $scope module device $end
   $var wire 1 % unrelated $end
   $var wire 2 & axi__b__payload.resp [1:0] $end
   $scope module rx_lifecycle $end
    $var wire 2 ' status[0].state [1:0] $end
   $upscope $end
   $scope module interrupts $end
    $var wire 1 $ interrupt__valid $end
   $upscope $end
  $upscope $end
 $upscope $end
$upscope $end
$enddefinitions $end
#0
"""


def test_variables_carry_their_scopes(tmp_path):
    waves = tmp_path / "run.vcd"
    waves.write_text(HEADER)
    found = list(variables(waves))
    assert found[0] == Variable("bench.machine.clk", 1)
    assert found[2].reference == "bench.machine.player.wire__payload.data[63:0]"
    assert len(found) == 7


def test_the_save_file_groups_the_packets_path(tmp_path):
    waves = tmp_path / "run.vcd"
    waves.write_text(HEADER)
    save = write_save_file(waves).read_text()
    places = [
        save.index(text)
        for text in (
            *("-wire, receive", "bench.machine.player.wire__payload.data[63:0]"),
            *("-DMA, write", "bench.machine.device.axi__b__payload.resp[1:0]"),
            *("-interrupt", "bench.machine.device.interrupts.interrupt__valid"),
            *("-queue states", "bench.machine.device.rx_lifecycle.status[0].state[1:0]"),
        )
    ]
    assert places == sorted(places)
    assert str(waves) in save
    assert "unrelated" not in save


def test_states_have_names(tmp_path):
    waves = tmp_path / "run.vcd"
    waves.write_text(HEADER)
    save = write_save_file(waves).read_text()
    assert str(tmp_path / "QueueState.names") in save
    assert "2 DRAINING" in (tmp_path / "QueueState.names").read_text()
    assert "SLVERR" in (tmp_path / "Response.names").read_text()


def test_other_waves_are_refused(tmp_path):
    waves = tmp_path / "other.vcd"
    waves.write_text("$scope module top $end\n$var wire 1 ! a $end\n$enddefinitions $end\n")
    with pytest.raises(ValueError, match=r"other\.vcd' hold none of a machine's signals"):
        write_save_file(waves)


def test_a_file_that_is_no_fst_is_refused(tmp_path):
    waves = tmp_path / "run.fst"
    waves.write_text(HEADER)
    with pytest.raises(ValueError, match="run.fst' cannot be read as FST"):
        list(variables(waves))
