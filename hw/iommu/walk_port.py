# SPDX-License-Identifier: BSD-2-Clause
"""The walk port: 64-bit AXI4 for all that the IOMMU itself reads and writes, apart from the devices' data."""

WIDTH = 64
BEAT_SIZE = 3  #: AxSIZE of full beats
COMMANDS_ID, FAULT_ID, FENCE_ID = 64, 65, 66  #: walks have those below
