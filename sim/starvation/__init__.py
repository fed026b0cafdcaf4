# SPDX-License-Identifier: BSD-2-Clause
"""Searches for the buffers with which a queue never starves."""
