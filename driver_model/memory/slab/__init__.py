# SPDX-License-Identifier: BSD-2-Clause
"""The slab allocator as SLUB implements it (``mm/slub.c``), and kmalloc."""
