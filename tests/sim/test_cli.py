# SPDX-License-Identifier: BSD-2-Clause
"""The command line: what it refuses, and short runs end to end."""

import json
import re

import dpkt
import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.traffic.capture import Captured, write_capture

EXAMPLE = "docs/examples/own.py"
SHORT = ["--set", "frames=150", "--set", "ring=64", "--set", "traffic=64", "--set", "verdicts=drop"]
SHORT += ["--set", "iommu=none"]


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments))


def refusal(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


PROFILES = "budget-3ghz, cortex-a53, e5-1650v4, e5-2690v3, epyc-9684x, i7-4790k, j16"
PRESET = "Preset must be one of 10g, 100g, 10g-offload, 100g-offload, 10g-recycle, 100g-recycle"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "strategy"],
            "Experiment must be one of strategies, one_core, bulk, skb, mvneta, pin_down, iotlb_window, protection, ",
        ),
        (["run", "strategies", "--preset", "40g"], f"{PRESET}, not '40g'"),
        (["run", "strategies", "--backend", "icarus"], "Backend must be one of verilator, amaranth, not 'icarus'"),
        (["run", "strategies", "--set", "speed=1"], "There is no parameter 'speed'; the machine has nic, link"),
        (["run", "strategies", "--set", "speed=1"], "experiment strategies has strategies, verdicts, consumer"),
        (["run", "strategies", "--set", "frames"], "set as key=value, not 'frames'"),
        (["run", "strategies", "--set", "frames=-1"], "frames must be in 0..10000000, not '-1'"),
        (
            ["run", "strategies", "--set", "verdicts=keep"],
            "verdicts must be one of drop, tx, pass, redirect, none, FILE.py:NAME, not 'keep'",
        ),
        (["run", "strategies", "--set", "strategies=mine.py:Stack"], "There is no file 'mine.py' to take 'Stack' from"),
        (["run", "strategies", "--set", "traffic=10"], "size on the wire must be in 64..9220 bytes, not 10"),
        (["run", "strategies", "--set", "ring=100"], "ring must be a power of two in 8..32768, not 100"),
        (["run", "strategies", "--set", "queues=3"], "queues must be in 1..2 on this machine, not 3"),
        (["run", "strategies", "--set", "load=2"], "load must be above 0 and at most 1, not '2'"),
        (["run", "strategies", "--set", "profile=z80"], f"profile must be one of {PROFILES}, not 'z80'"),
        (["run", "strategies", "--set", "nic.queues=99"], "nic.queues must be an integer in 1..16, not 99"),
        (["run", "strategies", "--pcap", "none.pcap"], "Capture 'none.pcap' cannot be read"),
        (["run", "strategies", "--sent", "sent.txt"], "name must end in .pcap or .pcapng, not 'sent.txt'"),
        (["run", "strategies", "--sent", "s.pcap"], "of one run with verdict tx, not of 120 with drop, pass, tx"),
        (["timeline", "--traffic", "64+imix"], "of one strategy, verdict, traffic and IOMMU mode, not of 2 cases"),
        (
            ["timeline", "--verdict", "keep"],
            "verdicts must be one of drop, tx, pass, redirect, none, FILE.py:NAME, not 'keep'",
        ),
        (
            ["stats", "--strategy", "hope"],
            "strategies must be one of page_per_packet, page_flip, fragments, copybreak, page_pool",
        ),
        (["verilog", "-o", "out", "--preset", "1g"], f"{PRESET}, not '1g'"),
        (["verilog", "-o", "out", "--core", "mac"], "Core must be one of nic, iommu, not 'mac'"),
        (["verilog", "-o", "out", "--core", "iommu", "--set", "nic.queues=4"], "iommu.NAME=VALUE, not 'nic.queues'"),
        (
            ["verilog", "-o", "out", "--core", "iommu", "--set", "iommu.walks=0"],
            "iommu.walks must be an integer in 1..32",
        ),
        (["verilog", "-o", __file__, "--core", "iommu"], "-o must name a folder, not the file"),
        (["run", "iotlb_window", "--preset", "1g"], f"{PRESET}, not '1g'"),
        (["costs", "--profile", "z80"], f"Profile must be one of {PROFILES}, not 'z80'"),
        (["bench", "--preset", "1g"], f"{PRESET}, not '1g'"),
    ],
)
def test_refusals_name_what_is_allowed(arguments, message):
    assert message in refusal(*arguments)


def test_list_shows_experiments_and_parameters():
    output = invoke("list").output
    assert "strategies" in output
    assert "frames" in output


def test_list_shows_the_parameters_of_a_part():
    output = invoke("list", "nic", "--preset", "100g").output
    assert "nic.queues" in output
    assert "16" in output
    assert "queue pairs" in output
    assert "1..16" in output
    assert "on or off" in output
    assert "False" not in output
    assert "nic, link, dram, iommu" in refusal("list", "mac")


def test_costs_show_their_sources():
    output = " ".join(invoke("costs").output.split())
    assert "e5-1650v4: Intel Xeon E5-1650 v4" in output
    assert re.search(r"page.alloc +│ +138.0 │ +38.3 │ solved +│ page, order 0", output)
    assert re.search(r"irq.entry +│ +900.0 │ +250.0 │ assumed", output)
    assert re.search(r"irq.save +│ +37.0 │ +10.3 │ solved on i7-4790k │", output)
    assert "Borrowed from j16: higher orders were measured there." in output


def test_costs_of_another_machine_say_what_it_is():
    output = invoke("costs", "--profile", "cortex-a53").output
    assert "devices not coherent" in output
    assert "Borrowed from e5-1650v4: no figure is published for this machine" in output


def test_a_run_prints_its_table_and_writes_the_same_file_twice(tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    first = invoke("run", "strategies", *SHORT, "--out", str(one))
    assert first.exit_code == 0, first.output
    assert "page_per_packet" in first.stdout
    assert invoke("run", "strategies", *SHORT, "--out", str(two)).exit_code == 0
    assert one.read_bytes() == two.read_bytes()
    result = json.loads(one.read_text())
    rows = {(row["name"], row["case"].get("strategy")): row["value"] for row in result["rows"]}
    for strategy in ("page_per_packet", "page_pool"):
        assert rows["delivered", strategy] + rows["dropped", strategy] == rows["offered", strategy] == 150
        assert rows["within_ceiling", strategy] is True
        assert 0 < rows["memory_cycles", strategy] < rows["cpu_cycles", strategy]
    assert rows["page_pool_is_cheaper", None] is True


def test_a_strategy_and_a_program_of_ones_own_run_beside_the_built_in_ones(tmp_path):
    file = tmp_path / "result.json"
    chosen = {"strategies": f"page_pool+{EXAMPLE}:PageStack", "verdicts": f"{EXAMPLE}:odd", "load": "0.2"}
    given = [part for key, text in chosen.items() for part in ("--set", f"{key}={text}")]
    result = invoke("run", "strategies", *SHORT, *given, "--out", str(file))
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found["config"]["own"].keys() == {f"{EXAMPLE}:PageStack", f"{EXAMPLE}:odd"}
    delivered = {row["case"]["strategy"]: row["value"] for row in found["rows"] if row["name"] == "delivered"}
    assert delivered == {"page_pool": 150, f"{EXAMPLE}:PageStack": 150}


def test_ctrl_c_ends_a_run_with_a_line(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.cli.run_experiment", interrupted)
    result = invoke("run", "strategies")
    assert (result.exit_code, result.stderr) == (130, "pagewheel: interrupted; nothing is written\n")


def test_a_capture_of_ones_own_is_played(tmp_path):
    capture, out = tmp_path / "own.pcap", tmp_path / "r.json"
    write_capture(capture, [Captured(n * 1000, bytes([n]) * 100) for n in range(5)])
    settings = ["--set", "traffic=capture", "--set", "verdicts=tx", "--set", "strategies=page_pool"]
    result = invoke("run", "strategies", *SHORT, *settings, "--pcap", str(capture), "--out", str(out))
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row["value"] for row in json.loads(out.read_text())["rows"]}
    assert rows["delivered"] == 5


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
def test_what_is_sent_is_captured(tmp_path, suffix):
    capture, sent = tmp_path / "own.pcap", tmp_path / "captures" / f"sent.{suffix}"
    frames = [bytes([n]) * (60 + 200 * n) for n in range(5)]
    write_capture(capture, [Captured(0, frame) for frame in frames])
    settings = ["--set", "traffic=capture", "--set", "verdicts=tx", "--set", "strategies=page_pool"]
    result = invoke("run", "strategies", *SHORT, *settings, "--pcap", str(capture), "--sent", str(sent))
    assert result.exit_code == 0, result.output
    with sent.open("rb") as file:
        assert [frame for _, frame in getattr(dpkt, suffix).Reader(file)] == frames


def test_two_cores_share_the_work_of_two_queues(tmp_path):
    settings = ["--set", "cores=2", "--set", "queues=2", "--set", "traffic=64", "--set", "verdicts=drop+tx"]
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        result = invoke("run", "strategies", *SHORT, *settings, "--set", "strategies=page_pool", "--out", str(file))
        assert result.exit_code == 0, result.output
    assert files[0].read_bytes() == files[1].read_bytes()
    rows = {(row["name"], row["case"].get("verdict")): row["value"] for row in json.loads(files[0].read_text())["rows"]}
    for verdict in ("drop", "tx"):
        assert rows["delivered", verdict] + rows["dropped", verdict] == rows["offered", verdict] == 150


def test_a_timeline_prints_packets_and_writes_them_for_a_viewer(tmp_path):
    files = [tmp_path / "new" / "one.json", tmp_path / "two.json"]
    for file in files:
        result = invoke("timeline", "--set", "frames=20", "--set", "queues=2", "--packets", "2", "--out", str(file))
        assert result.exit_code == 0, result.output
        assert "packet 1" in result.stdout
        assert "packet 2" not in result.stdout
        for step in ("arrived", "completed", "received", "returned", "irq.entry"):
            assert step in result.stdout
    assert files[0].read_bytes() == files[1].read_bytes()
    document = json.loads(files[0].read_text())
    slices = [event for event in document["traceEvents"] if event["name"] == "packet 19"]
    assert [event["ph"] for event in slices] == ["b", "e"]
    assert slices[0]["args"]["fate"] == "tx"


def test_stats_have_ethtool_and_page_pool_names():
    result = invoke("stats", "--traffic", "64", "--set", "frames=8", "--set", "ring=16")
    assert result.exit_code == 0, result.output
    counters = dict(line.split(": ") for line in result.stdout.splitlines())
    assert counters["rx_frames"] == "8"
    assert counters["queue0_rx_xdp_drop"] == "8"
    assert int(counters["rx_pp_alloc_fast"]) > 0


def test_stats_of_several_runs_say_whose_they_are():
    result = invoke("stats", "--traffic", "64+65", "--set", "frames=8", "--set", "ring=16")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    heads = [index for index, line in enumerate(lines) if line.startswith("# ")]
    assert [lines[index] for index in heads] == [
        f"# verdict drop, traffic {size}, iommu none, strategy page_pool" for size in (64, 65)
    ]
    assert len({tuple(lines[first + 1 : last]) for first, last in zip(heads, [*heads[1:], len(lines)])}) == 2
