# SPDX-License-Identifier: BSD-2-Clause
"""The package's own text leads to every module."""

from pathlib import Path

import hw.iommu


def test_every_module_has_its_place_in_the_guide() -> None:
    modules = {path.stem for path in Path(hw.iommu.__file__).parent.glob("*.py")} - {"__init__"}
    missing = {name for name in modules if f"``{name}``" not in str(hw.iommu.__doc__)}
    assert not missing, f"hw/iommu/__init__.py does not say what {', '.join(sorted(missing))} is for"
