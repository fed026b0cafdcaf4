# SPDX-License-Identifier: BSD-2-Clause
"""The hardware: synthesizable Amaranth that imports nothing of the simulation or the software."""
