# SPDX-License-Identifier: BSD-2-Clause
"""Code of one's own: the example works with every verdict and consumer, and what is wrong with a file is said."""

from pathlib import Path

import pytest

from driver_model.drivers.strategies import STRATEGIES, strategy
from driver_model.net.xdp import XdpProgram
from driver_model.net.xdp_programs import program
from driver_model.own import load_own
from tests.driver_model.bench import Bench

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own.py"
PAGE_STACK, ODD = f"{EXAMPLE}:PageStack", f"{EXAMPLE}:odd"
FRAMES = [bytes(34) + port.to_bytes(2, "big") + bytes(24) for port in range(200)]


@pytest.mark.parametrize("verdict", ["drop", "tx", "pass", "redirect", ODD])
def test_the_example_recycles_its_pages_and_gives_all_back(verdict: str) -> None:
    bench = Bench(PAGE_STACK, verdict, expected=[FRAMES], rx_entries=32, tx_entries=32)

    def flood() -> None:
        bench.start()
        for at in range(0, len(FRAMES), 20):
            bench.nic.receive(0, FRAMES[at : at + 20])
            bench.wait(lambda: not bench.nic.queues[0].waiting, "the frames to be taken")
        bench.finish()

    bench.run(flood)
    assert bench.total("rx_packets") == len(FRAMES)
    assert bench.driver.ethtool_statistics()["rx_stack_reused"] > len(FRAMES) // 2
    assert bench.host.leaks() == []


def test_the_example_sends_back_what_comes_from_odd_ports() -> None:
    bench = Bench(PAGE_STACK, ODD, rx_entries=32, tx_entries=32)

    def flood() -> None:
        bench.start()
        bench.nic.receive(0, FRAMES[:20])
        bench.wait(lambda: not bench.nic.queues[0].waiting, "the frames to be taken")
        bench.finish()

    bench.run(flood)
    assert (bench.total("rx_xdp_tx"), bench.total("rx_xdp_drop")) == (10, 10)


def test_names_of_files_load_once() -> None:
    assert strategy(PAGE_STACK) is strategy(PAGE_STACK)
    assert isinstance(program(ODD), XdpProgram)
    assert "PageStack" not in STRATEGIES


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (None, "S", "There is no file '.*own.py' to take 'S' from"),
        ("def f(:\n", "S", "own.py' cannot be loaded: .*SyntaxError"),
        ("x = 1\ny = x / 0\n", "S", r"own.py' cannot be loaded: ZeroDivisionError: division by zero \(line 2\)"),
        ("class A: pass\ndef b(): pass\n", "S", "own.py' has A, b of its own, not 'S'"),
        ("", "S", "own.py' has nothing of its own, not 'S'"),
        ("class S: pass\n", "S", "must be a subclass of PostedStrategy or PooledStrategy, not <class"),
        (
            "from driver_model.drivers.strategies.base import PostedStrategy\nclass S(PostedStrategy): pass\n",
            "S",
            "must have the methods allocate, close, in_flight, received, release, transmit, transmitted, withdraw, too",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str | None, name: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=message):
        strategy(f"{file}:{name}")


def test_a_program_is_a_function_or_an_xdp_program(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("class A: pass\nb = 3\n")
    for name in ("A", "b"):
        with pytest.raises(ValueError, match="must be an XdpProgram or a function, not"):
            program(f"{file}:{name}")
    assert load_own(f"{file}:b") == 3
