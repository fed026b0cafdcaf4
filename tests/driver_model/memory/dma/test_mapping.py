# SPDX-License-Identifier: BSD-2-Clause
"""Sets of address ranges, against sets of addresses."""

import random
from itertools import pairwise

from driver_model.memory.dma.mapping import Intervals, add, covers, overlap, remove


def test_ranges_against_a_set_of_addresses() -> None:
    seed = 3
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(300):
        ranges: Intervals = ()
        model: set[int] = set()
        for _ in range(12):
            start = rng.randrange(40)
            stop = start + rng.randrange(1, 12)
            if rng.random() < 0.6:
                ranges, model = add(ranges, start, stop), model | set(range(start, stop))
            else:
                ranges, model = remove(ranges, start, stop), model - set(range(start, stop))
            assert {address for low, high in ranges for address in range(low, high)} == model
            assert all(a[1] < b[0] for a, b in pairwise(ranges)), "ranges touch or are out of order"
            start = rng.randrange(50)
            stop = start + rng.randrange(1, 12)
            asked = set(range(start, stop))
            assert covers(ranges, start, stop) == (asked <= model)
            assert overlap(ranges, start, stop) == bool(asked & model)
