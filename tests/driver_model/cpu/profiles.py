# SPDX-License-Identifier: BSD-2-Clause
"""Texts of cost profiles for tests."""

PAIR = """
[[benchmark]]
name = "pair"
loop = { alloc = 1, free = 2 }
split = { alloc = 1, free = 2 }
cycles = 60
source = "a paper"
note = "hot"
"""

LATER = """
[[benchmark]]
name = "slow"
loop = { alloc = 1, free = 2, slow = 1 }
split = { slow = 1 }
cycles = 100
source = "a paper"

[[benchmark]]
name = "wait"
loop = { slow = 1, wait = 1 }
split = { wait = 1 }
mpps = 16
solve_for = "ns"
source = "a paper: 62.5 ns, of which slow takes 40 cycles at 1 GHz; 22.5 remain"
"""

BORROW = """
[[borrow]]
from = "other"
operations = ["iova.*", "nap"]
reason = "a similar core"
"""


def profile_text(entries: str = "", khz: str = "1_000_000", name: str = "x") -> str:
    """A profile of a core at 1 GHz."""
    return f'name = "{name}"\nmachine = "y"\nfrequency_khz = {khz}\n{entries}'


def assumption(name: str, cost: str) -> str:
    """An entry with a cost such as ``cycles = 4``."""
    return f'[[assumption]]\nname = "{name}"\n{cost}\nreason = "a guess"\n'


def borrow(lender: str, operations: str, reason: str = "a similar core") -> str:
    """An entry that borrows ``operations``, such as ``"iova.*", "nap"``."""
    return f'[[borrow]]\nfrom = "{lender}"\noperations = [{operations}]\nreason = "{reason}"\n'
