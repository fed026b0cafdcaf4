# SPDX-License-Identifier: BSD-2-Clause
"""Rules of the source tree that no type checker knows."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hw", "driver_model", "sim", "synth", "tests")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HASH_SPDX = "# SPDX-License-Identifier: BSD-2-Clause"
SLASH_SPDX = "// SPDX-License-Identifier: BSD-2-Clause"

#: What each package may import of this repository. The software knows what the hardware's descriptors and registers
#: look like, and nothing else of it.
ALLOWED = {
    "hw": ("hw",),
    "driver_model": ("driver_model", "hw.abi"),
    "sim": ("sim", "hw", "driver_model"),
    "synth": ("synth", "hw"),
    "tests": PACKAGES,
}
#: What of third parties a package must not touch.
FORBIDDEN = {
    "hw": ("cocotb", "scapy", "numpy", "greenlet", "typer", "rich"),
    "driver_model": ("amaranth.sim", "cocotb", "scapy", "numpy", "typer", "rich"),
    "sim": (),
    "synth": (),
    "tests": (),
}
#: The ways to name Amaranth's Record, not somebody else's.
RECORDS = ("amaranth.Record", "amaranth.hdl.Record", "hdl.Record")


def name_of(path):
    return str(path.relative_to(ROOT))


def imports(tree):
    """Every module that a syntax tree imports, and those names imported from packages that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text(), str(path)) for path in SOURCES}


def test_imports_follow_the_arrows(trees):
    wrong = []
    for path, tree in trees.items():
        package = path.relative_to(ROOT).parts[0]
        for module in imports(tree):
            ours = within(module, PACKAGES) and module not in PACKAGES
            if (ours and not within(module, ALLOWED[package])) or within(module, FORBIDDEN[package]):
                wrong.append(f"{name_of(path)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_no_record_and_no_generator_benches(trees):
    wrong = []
    for path, tree in trees.items():
        wrong += [
            f"{name_of(path)} imports {module}"
            for module in imports(tree)
            if within(module, ("amaranth.hdl.rec", "amaranth.back.pysim"))
            or (within(module, ("amaranth",)) and module.endswith(".Record"))
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (node.attr == "add_sync_process" or ast.unparse(node) in RECORDS):
                wrong.append(f"{name_of(path)}:{node.lineno} uses {ast.unparse(node)}")
            elif isinstance(node, ast.FunctionDef) and node.name.startswith(("bench", "testbench")):
                yields = [n.lineno for n in ast.walk(node) if isinstance(n, ast.Yield)]
                wrong += [f"{name_of(path)}:{line} is a bench that yields" for line in yields]
    assert not wrong, "\n".join(wrong)


def test_every_source_names_its_licence():
    spdx = {".py": HASH_SPDX, ".toml": HASH_SPDX, ".rdl": SLASH_SPDX, ".sv": SLASH_SPDX, ".cpp": SLASH_SPDX}
    files = [ROOT / "pyproject.toml", *(path for package in PACKAGES for path in (ROOT / package).rglob("*"))]
    wrong = [
        name_of(path)
        for path in files
        if path.suffix in spdx and path.read_text().splitlines()[:1] != [spdx[path.suffix]]
    ]
    assert not wrong, f"without licence line first: {', '.join(wrong)}"


def test_no_checker_is_silenced():
    markers = tuple("# " + word for word in ("noqa", "type: ignore", "fmt: off", "pragma", "pylint"))
    wrong = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(marker in line for marker in markers)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_test_is_switched_off(trees):
    wrong = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail"):
                wrong.append(f"{name_of(path)}:{node.lineno} uses {node.attr}")
    assert not wrong, "\n".join(wrong)


def test_files_hold_one_concept():
    long = {name_of(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 400}
    assert not long, f"more than 400 lines: {long}"


def test_every_test_folder_is_a_package():
    missing = {name_of(path.parent) for path in (ROOT / "tests").rglob("test_*.py")} - {
        name_of(path.parent) for path in (ROOT / "tests").rglob("__init__.py")
    }
    assert not missing, f"no __init__.py in {', '.join(sorted(missing))}"
