# SPDX-License-Identifier: BSD-2-Clause
"""Lines of driver code."""

import inspect
from types import FunctionType

from driver_model.memory.dma import scatterlist
from driver_model.memory.site import caller, told


def inside(function: FunctionType) -> FunctionType:
    """The function, as if it stood in the memory subsystem."""
    code = function.__code__.replace(co_filename=scatterlist.__file__)
    return FunctionType(code, {**function.__globals__}, closure=function.__closure__)


def test_it_is_the_line_that_called_the_memory_subsystem() -> None:
    lowest = inside(lambda: caller())
    middle = inside(lambda: lowest())
    line = inspect.currentframe().f_lineno + 1
    file, found = middle()
    assert (file, found) == (__file__, line)


def test_frames_that_are_known_to_be_inside_are_skipped() -> None:
    lowest = inside(lambda: caller(3))
    middle = inside(lambda: lowest())
    highest = inside(lambda: middle())
    line = inspect.currentframe().f_lineno + 1
    assert highest()[1] == line


def test_people_see_it_from_the_root_of_the_source() -> None:
    assert told((__file__, 7)) == "tests/driver_model/memory/test_site.py:7"
    assert told(("/elsewhere/x.py", 1)) == "/elsewhere/x.py:1"
