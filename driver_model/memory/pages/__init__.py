# SPDX-License-Identifier: BSD-2-Clause
"""Pages: the buddy allocator of a zone, per-CPU lists, what happens when memory runs short, and page fragments."""
