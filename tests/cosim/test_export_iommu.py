# SPDX-License-Identifier: BSD-2-Clause
"""The exported IOMMU under Verilator, between models that are not ours: see :mod:`tests.cosim.export_iommu_bench`."""

from hw.config import CacheConfig, IommuConfig
from tests.cosim.exported import run_exported


def test_exported_iommu_translates_between_foreign_models(tmp_path, monkeypatch):
    """Small caches, so that accesses miss; without exclusives, which the foreign memory does not know."""
    config = IommuConfig(
        data_width=128, hardware_ad=False, tlb_4k=CacheConfig(4, 2), walk_cache_1=CacheConfig(1, 2), counters=1
    )
    assert run_exported(config, "tests.cosim.export_iommu_bench", tmp_path, monkeypatch) == 7
