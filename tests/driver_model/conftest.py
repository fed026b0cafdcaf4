# SPDX-License-Identifier: BSD-2-Clause
"""What all tests of the software have in common."""

from collections.abc import Iterator

import pytest

from tests.driver_model.bench import BENCHES


@pytest.fixture(autouse=True)
def _end_all_software() -> Iterator[None]:
    """Suspended contexts would hold a machine and its memory for ever."""
    yield
    while BENCHES:
        BENCHES.pop().system.shutdown()
