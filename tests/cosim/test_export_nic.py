# SPDX-License-Identifier: BSD-2-Clause
"""The exported NIC under Verilator, driven by models that are not ours: see :mod:`tests.cosim.export_nic_bench`."""

import pytest

from hw.config import preset
from tests.cosim.exported import run_exported


@pytest.mark.parametrize("data_width", [64, 512])
def test_exported_nic_moves_frames_between_foreign_models(tmp_path, monkeypatch, data_width):
    config = preset("10g", data_width=data_width, queues=1)
    assert run_exported(config, "tests.cosim.export_nic_bench", tmp_path, monkeypatch) == 4
