# SPDX-License-Identifier: BSD-2-Clause
"""What the command line says of captures it cannot play, of missing tools, and of runs that fail."""

import shutil

import pytest
from typer.testing import CliRunner

from driver_model.drivers.device import DeviceError
from driver_model.memory.dma.ownership import OwnershipError, Violation
from driver_model.net.collector import CollectorError
from sim import cli
from sim.backends import build
from sim.backends.base import JobError
from sim.scenario import RunError
from sim.traffic.capture import Captured, write_capture


def run(*arguments):
    result = CliRunner().invoke(cli.app, ["run", "strategies", *arguments])
    return result.exit_code, result.stderr.strip()


@pytest.mark.parametrize(
    ("lengths", "cut", "message"),
    [
        (None, 0, "cannot be read: No such file or directory"),
        ([], None, "is empty: the file has no bytes"),
        ([], 0, "is empty: it holds no frames"),
        ([60, 60], 1, "cannot be used: the file ends inside frame 2"),
        ([60, 13], 0, "cannot be used: frame 2 is 13 bytes long, and 14..9216 are allowed"),
        ([9217], 0, "cannot be used: frame 1 is 9217 bytes long, and 14..9216 are allowed"),
    ],
)
def test_a_capture_that_cannot_be_played_is_named_with_the_reason(tmp_path, lengths, cut, message):
    path = tmp_path / "own.pcap"
    if lengths is not None:
        write_capture(path, [Captured(0, bytes(length)) for length in lengths])
        raw = path.read_bytes()
        path.write_bytes(b"" if cut is None else raw[: len(raw) - cut])
    assert run("--pcap", str(path)) == (cli.USAGE, f"pagewheel: Capture {str(path)!r} {message}")


def test_a_capture_that_no_run_plays_is_refused(tmp_path):
    path = tmp_path / "own.pcap"
    write_capture(path, [Captured(0, bytes(60))])
    code, message = run("--pcap", str(path), "--set", "traffic=64")
    assert code == cli.USAGE
    assert message == f"pagewheel: Capture {str(path)!r} is given, but capture is not among the traffic of this run"


@pytest.mark.parametrize(("option", "name"), [("--out", "result.json"), ("--sent", "sent.pcap")])
def test_a_file_that_cannot_be_written_is_refused_before_the_run(option, name, tmp_path):
    assert run(option, str(tmp_path)) == (
        cli.USAGE,
        f"pagewheel: {option} must name a file, not the folder {str(tmp_path)!r}",
    )
    file = tmp_path / "file"
    file.write_text("")
    code, message = run(option, str(file / name))
    assert code == cli.USAGE
    assert message.startswith(f"pagewheel: {option} must name a file that can be made, not {str(file / name)!r}")
    assert file.read_text() == ""


COMMANDS_WITH_FILES = [
    (["bench", "--out"], "bench_rows", "--out must name a file"),
    (["timeline", "--traffic", "64", "--out"], "trace_run", "--out must name a file"),
    (["verilog", "--core", "iommu", "-o"], "export", "-o must name a folder"),
]


@pytest.mark.parametrize(("command", "work", "message"), COMMANDS_WITH_FILES)
def test_other_commands_refuse_such_files_before_their_work_too(command, work, message, tmp_path, monkeypatch):
    def begun(*arguments, **options):
        raise AssertionError(f"{work} was begun")

    monkeypatch.setattr(cli, work, begun)
    file = tmp_path / "file"
    file.write_text("")
    result = CliRunner().invoke(cli.app, [*command, str(file / "name")])
    assert result.exit_code == cli.USAGE, result.output
    assert result.stderr.startswith(f"pagewheel: {message} that can be made, not {str(file / 'name')!r}: ")


@pytest.mark.parametrize("tool", ["g++", "make", "perl"])
def test_a_missing_tool_is_named_with_what_to_do(tool, monkeypatch, tmp_path):
    found = shutil.which
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name == tool else found(name))
    monkeypatch.setenv("PAGEWHEEL_BUILD", str(tmp_path))
    build._tools.cache_clear()
    code, message = run()
    assert code == cli.FAILURE
    assert message.splitlines()[-1].startswith("pagewheel: Verilator needs ")
    assert f"{tool!r} is not on PATH. Install it (Debian: apt install g++ make perl), or use the backend" in message


FAILED = [
    RunError("20 frames were sent, 19 delivered"),
    DeviceError("The device has 2 queue pairs, not 3"),
    OwnershipError(Violation("double free", "page 7")),
    CollectorError("Queue 0: frame 3 of 60 bytes was changed"),
]


@pytest.mark.parametrize("error", FAILED)
@pytest.mark.parametrize("in_process", [True, False])
def test_a_failed_run_is_told_in_one_line_by_both_backends(error, in_process, monkeypatch):
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    raised = error if in_process else JobError(f"sim.run:run_cases failed:\nTraceback\n{error}", kind, str(error))

    def fail(*arguments, **options):
        raise raised

    monkeypatch.setattr(cli, "run_experiment", fail)
    assert run() == (cli.FAILURE, f"pagewheel: {error}")


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch):
    def fail(*arguments, **options):
        raise JobError("sim.run:run_cases failed:\nTraceback\nIndexError: 5", "builtins.IndexError", "5")

    monkeypatch.setattr(cli, "run_experiment", fail)
    assert run() == (cli.FAILURE, "pagewheel: sim.run:run_cases failed:\nTraceback\nIndexError: 5")
