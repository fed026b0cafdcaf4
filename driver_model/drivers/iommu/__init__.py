# SPDX-License-Identifier: BSD-2-Clause
"""The driver of the RISC-V IOMMU."""
