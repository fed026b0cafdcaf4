# SPDX-License-Identifier: BSD-2-Clause
"""Backend on Verilator: the machine compiled to C++, in a process of its own, with software in a greenlet under cocotb.

One signal of the bench, ``wake``, reaches Python: it toggles after an edge that reaches the cycle waited for, or whose
writes hit a watch. Everything else is shared memory (:file:`storage.cpp`).
"""

import ctypes
import json
import os
import pickle
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from cocotb.handle import LogicObject
from cocotb.triggers import ValueChange
from cocotb_tools.runner import get_runner
from greenlet import getcurrent, greenlet

from sim.backends.base import (
    ACCESS_STORAGE,
    Access,
    Backend,
    Design,
    JobError,
    StorageError,
    check_range,
    check_until,
    resolve,
)
from sim.backends.build import TOP, StorageInfo, model

JOB_VARIABLE = "PAGEWHEEL_JOB"  #: environment of the simulator: the folder of its job

_ACCESS = np.dtype([("cycle", "<u8"), ("address", "<u8"), ("length", "<u4"), ("is_write", "<u4")])


class _Control(ctypes.Structure):
    """Struct Control of :file:`storage.cpp`."""

    _fields_ = [
        ("cycle", ctypes.c_uint64),
        ("target", ctypes.c_uint64),
        ("started", ctypes.c_uint32),
        ("reset", ctypes.c_uint32),
        ("hits", ctypes.c_uint32),
        ("woken", ctypes.c_uint32),
        ("message", ctypes.c_char * 256),
    ]


def _library() -> ctypes.CDLL:
    """The functions of :file:`storage.cpp`, which are part of the running executable."""
    library = ctypes.CDLL(None)
    prototypes: dict[str, tuple[Any, list[Any]]] = {
        "control": (ctypes.POINTER(_Control), []),
        "bind": (None, [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]),
        "watch": (ctypes.c_int, [ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64]),
        "unwatch": (ctypes.c_int, [ctypes.c_int]),
        "collect_hits": (None, [ctypes.POINTER(ctypes.c_int)]),
        "access_count": (ctypes.c_uint64, []),
        "collect_accesses": (None, [ctypes.c_void_p]),
        "power_on": (None, []),
    }
    for name, (result, arguments) in prototypes.items():
        function = getattr(library, f"pagewheel_{name}")
        function.restype, function.argtypes = result, arguments
    return library


class VerilatorBackend(Backend):
    """The machine that this process simulates; see :class:`sim.backends.base.Backend`.

    ``advance`` may be called from any greenlet of the one that :meth:`run` starts, and comes back to the same.
    """

    def __init__(self, storages: tuple[StorageInfo, ...], wake: LogicObject, *, access_log: bool):
        self._library = _library()
        self._control = self._library.pagewheel_control().contents
        self._wake = wake
        self._numbers = {info.name: number for number, info in enumerate(storages)}
        self._names = [info.name.encode() for info in storages]  # the C++ side points into these
        arrays = {}
        for info, name in zip(storages, self._names, strict=True):
            array = np.zeros(info.size, np.uint8)
            arrays[info.name] = array
            logged = access_log and info.name == ACCESS_STORAGE
            self._library.pagewheel_bind(name, array.ctypes.data, info.size, logged)
        self.storage = MappingProxyType(arrays)
        self._hub = getcurrent()
        self._waiting = self._hub

    async def run(self, function: Callable[[], Any]) -> Any:
        """The result of synchronous code that uses this backend."""
        self._hub = getcurrent()
        worker = greenlet(function)
        result = worker.switch()
        self._control.started = 1
        change = ValueChange(self._wake)
        while not worker.dead:
            await change
            result = self._waiting.switch()
        return result

    @property
    def cycle(self) -> int:
        return self._control.cycle

    def advance(self, until_cycle: int) -> int:
        control = self._control
        cycle = control.cycle
        if until_cycle <= cycle:
            check_until(cycle, until_cycle)
            return cycle
        control.target = until_cycle
        control.woken = 0
        self._waiting = getcurrent()
        self._hub.switch()
        if control.message:
            raise StorageError(control.message.decode())
        return control.cycle

    def watch(self, storage: str, start: int, stop: int) -> int:
        check_range(len(self.storage[storage]), storage, start, stop)
        return self._library.pagewheel_watch(self._numbers[storage], start, stop)

    def unwatch(self, token: int) -> None:
        if not self._library.pagewheel_unwatch(token):
            raise ValueError(f"There is no watch {token!r}")

    def hits(self) -> list[int]:
        count = self._control.hits
        if not count:
            return []
        tokens = (ctypes.c_int * count)()
        self._library.pagewheel_collect_hits(tokens)
        return list(tokens)

    def accesses(self) -> list[Access]:
        count = self._library.pagewheel_access_count()
        if not count:
            return []
        log = np.empty(count, _ACCESS)
        self._library.pagewheel_collect_accesses(log.ctypes.data)
        return [Access(cycle, address, length, bool(write)) for cycle, address, length, write in log.tolist()]

    def reset(self) -> None:
        self._control.message = b""
        self._control.reset = 1
        self._take_edge()
        self._control.reset = 0
        self._take_edge()
        for array in self.storage.values():
            array.fill(0)
        self._library.pagewheel_power_on()

    def _take_edge(self) -> None:
        self._control.target = self._control.cycle + 1
        self._waiting = getcurrent()
        self._hub.switch()


def run(design: Design, job: str, argument: Any, waves: Path | None) -> Any:
    """See :func:`sim.backends.base.launch`."""
    if JOB_VARIABLE in os.environ:
        raise RuntimeError(
            f"{job!r} was launched while a simulator imported the module of its own job: guard the call with "
            "if __name__ == '__main__'"
        )
    resolve(job)
    suffix = "" if waves is None else waves.suffix.lstrip(".")
    if suffix not in ("", "vcd", "fst"):
        raise ValueError(f"Waves must go to a .vcd or .fst file, not {str(waves)!r}")
    built = model(design, waves=suffix)
    with tempfile.TemporaryDirectory(prefix="pagewheel-") as name:
        folder = Path(name)
        result = folder / "result.json"
        (folder / "job.pickle").write_bytes(pickle.dumps((design, built.storages, job, argument)))
        get_runner("verilator").test(
            test_module="sim.backends.cocotb_main",
            hdl_toplevel=TOP,
            hdl_toplevel_lang="verilog",
            build_dir=built.folder,
            test_dir=Path.cwd(),
            results_xml=str(folder / "results.xml"),
            test_args=[] if waves is None else ["--trace", "--trace-file", str(waves.absolute())],
            extra_env={JOB_VARIABLE: str(folder), "COCOTB_LOG_LEVEL": "ERROR", "GPI_LOG_LEVEL": "ERROR"},
        )
        if not result.exists():
            raise JobError(f"The simulator ended without a result for {job!r}")
        outcome = json.loads(result.read_text())
    if "error" in outcome:
        raise JobError(f"{job} failed in the simulator:\n{outcome['error']}", outcome["kind"], outcome["reason"])
    return outcome["result"]


async def serve(wake: LogicObject) -> None:
    """Inside the simulator: run the job that :func:`run` left, and leave its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who launched it gets one too, says so, and ends this process
    folder = Path(os.environ[JOB_VARIABLE])
    design, storages, job, argument = pickle.loads((folder / "job.pickle").read_bytes())

    def work() -> str:
        try:
            return json.dumps({"result": resolve(job)(backend, design, argument)})
        except Exception as error:
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            return json.dumps({"error": traceback.format_exc(), "kind": kind, "reason": str(error)})

    backend = VerilatorBackend(storages, wake, access_log=design.access_log)
    (folder / "result.json").write_text(await backend.run(work))
