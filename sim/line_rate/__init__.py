# SPDX-License-Identifier: BSD-2-Clause
"""Runs at full rate: a driver that costs no CPU time and handles packets in arrays, and what it measures."""
