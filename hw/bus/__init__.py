# SPDX-License-Identifier: BSD-2-Clause
"""Buses: AXI4, AXI4-Lite, packet stream, and what splits, joins and converts them."""
