# SPDX-License-Identifier: BSD-2-Clause
"""What an allocation may do to get its memory (``include/linux/gfp_types.h``).

The kernel's ``__GFP_X`` is ``GFP_X`` here: Python gives names with two leading underscores a meaning of its own.
"""

GFP_HIGH = 1 << 5  #: may take half of the reserve below the min watermark
GFP_IO = 1 << 6  #: reclaim may start I/O; without effect: there is none
GFP_FS = 1 << 7  #: reclaim may call into a file system; likewise
GFP_ZERO = 1 << 8  #: the memory is cleared
GFP_DIRECT_RECLAIM = 1 << 10  #: may reclaim and compact by itself, and so wait
GFP_KSWAPD_RECLAIM = 1 << 11  #: wakes kswapd when memory is low
GFP_NOWARN = 1 << 13  #: a failure is not logged
GFP_NORETRY = 1 << 16  #: one round of reclaim, then it fails
GFP_MEMALLOC = 1 << 17  #: may take the last page: it helps to free memory
GFP_COMP = 1 << 18  #: one compound page; every block is one here, with or without
GFP_NOMEMALLOC = 1 << 19  #: leaves the emergency reserve alone, whatever else is set

GFP_ATOMIC = GFP_HIGH | GFP_KSWAPD_RECLAIM  #: in any context
GFP_NOWAIT = GFP_KSWAPD_RECLAIM | GFP_NOWARN
GFP_KERNEL = GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM | GFP_IO | GFP_FS  #: in processes, which it may keep waiting
