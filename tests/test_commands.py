# SPDX-License-Identifier: BSD-2-Clause
"""The long comparisons and proofs as commands: they say how they are used, and refuse what they do not know."""

import sys

import pytest

import tests.formal.__main__ as formal
import tests.golden.__main__ as golden
import tests.offloads.__main__ as offloads

COMMANDS = [(formal, "prove"), (golden, "launch"), (offloads, "launch")]


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    def begun(*arguments, **options):
        raise AssertionError("work was begun")

    for module, work in COMMANDS:
        monkeypatch.setattr(module, work, begun)


def ends(module, *arguments, monkeypatch):
    """The exit code of a command that is not to begin its work."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as ended:
        module.main()
    return ended.value.code


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS])
def test_help_shows_the_usage_and_runs_nothing(module, monkeypatch, capsys):
    assert ends(module, "--help", monkeypatch=monkeypatch) == 0
    name = module.__name__.removesuffix(".__main__")
    assert capsys.readouterr().out.startswith(f"usage: python -m {name} [-h]")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (formal, ["least"], f"proofs are {', '.join(formal.PROOFS)}, not least"),
        (formal, ["mux", "muxes"], "not muxes"),
        (golden, ["mux"], f"configurations are {', '.join(golden.CONFIGURATIONS)}, not mux"),
        (golden, ["--backend", "icarus"], "invalid choice: 'icarus'"),
        (offloads, ["--width", "32"], "invalid choice: 32"),
        (offloads, ["send"], "unrecognized arguments: send"),
    ],
)
def test_what_is_unknown_is_refused_with_what_there_is(module, arguments, message, monkeypatch, capsys):
    assert ends(module, *arguments, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err


def test_proofs_that_are_named_are_run_alone(monkeypatch):
    begun = []
    monkeypatch.setattr(formal, "prove", lambda name: not begun.append(name))
    monkeypatch.setattr(sys, "argv", ["command", "mux", "fork"])
    assert formal.main() == 0
    assert begun == ["mux", "fork"]
