# SPDX-License-Identifier: BSD-2-Clause
"""Hand-made directories and tables for tests of walks: one device, one page."""

from tests.golden.model import GADE, SADE, DirectoryMode
from tests.golden.paging import SV39
from tests.golden.tables import LEAF, PAGE, Context, Tables

DEVICE = 5
MEGA = 2 << 20
ADDRESS = 0x12_3456_7000 & -MEGA | 0x45000  #: of the device


class Nested:
    """Both stages, Sv39 and Sv39x4; the second maps all of memory to itself.

    Attributes
    ----------
    path : addresses of the first stage's entries, the leaf's last
    """

    def __init__(self, *, first_level: int = 0, second_level: int = 0, flags: int = LEAF, marks: int = SADE | GADE):
        self.tables = tables = Tables.empty()
        self.directory = tables.take()
        self.second_root = tables.take_root()
        self.first_root = tables.take()
        self.target = 0 if first_level else 0x7F
        self.path = tables.map(SV39, self.first_root, ADDRESS, self.target, level=first_level, flags=flags)
        self.leaves = {}
        if second_level:
            self.leaves[0] = tables.map(SV39, self.second_root, 0, 0, level=1, wide=True)[-1]
        else:
            for page in range(len(tables.memory.data) // PAGE):
                self.leaves[page] = tables.map(SV39, self.second_root, page * PAGE, page, wide=True)[-1]
        context = Context.of(tc=marks, first=(SV39, self.first_root), second=(SV39, self.second_root), pscid=9, gscid=3)
        tables.put_context(DirectoryMode.LVL1, self.directory, DEVICE, context)


class Single:
    """One stage, Sv39: the second if ``wide``."""

    def __init__(
        self,
        *,
        level: int = 0,
        flags: int = LEAF,
        wide: bool = False,
        marks: int = SADE | GADE,
        mode: DirectoryMode = DirectoryMode.LVL1,
        device: int = DEVICE,
    ):
        self.tables = tables = Tables.empty()
        self.directory = tables.take()
        self.root = tables.take_root() if wide else tables.take()
        self.target = 0x2600 & -(1 << 9 * level) if level else 0x2600
        self.path = tables.map(SV39, self.root, ADDRESS, self.target, level=level, flags=flags, wide=wide)
        stage = {"second" if wide else "first": (SV39, self.root)}
        context = Context.of(tc=marks, pscid=9, gscid=3, **stage)
        self.context_path = tables.put_context(mode, self.directory, device, context)
