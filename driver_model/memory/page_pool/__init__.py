# SPDX-License-Identifier: BSD-2-Clause
"""The page pool (``net/core/page_pool.c``), and what was proposed for it but never merged."""
