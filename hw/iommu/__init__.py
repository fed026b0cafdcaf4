# SPDX-License-Identifier: BSD-2-Clause
"""A RISC-V IOMMU (architecture specification 1.0). Begin with ``iommu``, which joins its three parts.

**Accesses of devices** ``write_channel``, ``read_channel``: each takes bursts and asks for translations ahead
(``look_ahead``), lets them leave in order (``read_places``), counts those at memory for order and fences
(``outstanding``), and answers those that faulted, and translation requests (``refusal``). ``prefetch_answers`` answers
prefetches, of which nothing more than a lookup is seen.

**Translation** ``translator``: a ``lookup`` for each channel, in ``context_cache`` and ``tlb``, answers in three
cycles. A miss goes to the ``walk_table``, which has the ``walker`` do the walk. That is one pipeline for all walks,
with a row of ``walk_state`` for each: what memory answers is judged by ``directory`` or ``table_entry``, then
``walk_decision`` says what comes next (and ``walk_faults`` which cause a fault has), and ``walk_action`` does it: by
``walk_requests`` to memory, or from ``walk_cache``. What was found goes to the caches by ``fill_queue``. IOTLB and walk
caches are made of ``cache``, with ``replacement``; ``fork`` has all of them take an invalidation.

**Control** ``control``: ``register_block`` and ``register_access`` for software's accesses, ``directory_register``,
``command_queue`` (``command_fetch``, ``commands``, ``ats``), ``fences``, ``fault_queue``, ``debug_translation``,
``counters``, ``interrupts``.

``interfaces`` has what blocks exchange, ``walk_port`` who uses which ID on the way to tables and queues.

A read that misses: ``read_channel`` holds it, ``lookup`` finds nothing, ``walk_table`` takes it on as a walk or lets it
share one, and the channel waits for that walk to finish while others pass. The walk's result is kept until all who
wait have used it, so no request is looked up again only to miss again.

An invalidation: ``command_queue`` offers it to all caches until the last has taken it. Meanwhile nothing is filled, and
walks under way are *poisoned*: they fill nothing and nobody new shares them; those who wait for them are older than the
fence that follows, and ``fences`` waits until they are done.
"""
