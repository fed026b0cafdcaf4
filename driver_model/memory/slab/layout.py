# SPDX-License-Identifier: BSD-2-Clause
"""SLUB's arithmetic: how many pages a slab has, how many slabs a cache keeps.

The rules are those of ``mm/slub.c`` from Linux 4.6 to 6.6: ``slab_order``, ``calculate_order``, ``set_min_partial`` and
``set_cpu_partial``.
"""

WORD = 8  #: least size and alignment of an object: a free one holds the pointer to the next
MAX_ORDER = 3  #: ``slub_max_order``: no slab is larger, unless a single object is
MIN_PARTIAL = 5
MAX_PARTIAL = 10


def get_order(size: int, page_size: int) -> int:
    """The least order of which a block holds ``size`` bytes, 1 or more."""
    return ((size - 1) // page_size).bit_length()


def slab_order(size: int, min_objects: int, page_size: int, fraction: int) -> int | None:
    """The least order, :data:`MAX_ORDER` at most, that holds ``min_objects`` and wastes no more than one part in
    ``fraction``; None if there is none."""
    for order in range(get_order(min_objects * size, page_size), MAX_ORDER + 1):
        slab_size = page_size << order
        if slab_size % size <= slab_size // fraction:
            return order
    return None


def calculate_order(size: int, page_size: int, cpus: int) -> int:
    """The order of a cache's slabs.

    A machine of more CPUs wants more objects in a slab, ``4 * (fls(cpus) + 1)``: on 8 to 15 CPUs 20, so that objects of
    256 bytes come 32 to a slab of two 4 KiB pages. Where two objects would waste more than a quarter, the slab is of
    one. (The kernel tries every number in between, of which none can succeed where the first one did not.)
    """
    wanted = min(4 * (cpus.bit_length() + 1), (page_size << MAX_ORDER) // size)
    for fraction in (16, 8, 4) if wanted > 1 else ():
        order = slab_order(size, wanted, page_size, fraction)
        if order is not None:
            return order
    return get_order(size, page_size)


def min_partial(size: int) -> int:
    """Partial slabs that a node keeps although they are empty."""
    return max(MIN_PARTIAL, min(MAX_PARTIAL, (size.bit_length() - 1) // 2))


def cpu_partial_objects(size: int, page_size: int) -> int:
    """Free objects on a CPU's list of partial slabs above which the list goes to the node, before Linux 5.16."""
    return 2 if size >= page_size else 6 if size >= 1024 else 13 if size >= 256 else 30


def cpu_partial_slabs(size: int, page_size: int, objects: int) -> int:
    """Slabs on a CPU's list of partial slabs from which on the list goes to the node, from Linux 5.16 on (commit
    b47291ef02b0): as many as hold 6, 24, 52 or 120 free objects by size, if they are half full of ``objects``."""
    free = 6 if size >= page_size else 24 if size >= 1024 else 52 if size >= 256 else 120
    return -(-2 * free // objects)
