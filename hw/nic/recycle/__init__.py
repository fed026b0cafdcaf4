# SPDX-License-Identifier: BSD-2-Clause
"""Buffers that go round without software: pools, their recycle FIFOs, and the loop that bounds them.

::

    TX pieces ───────┐                                              ┌─► verdicts
    return registers ┼─► claims ─► tracker ─► returns ─► free list ─┤
    fill descriptors ┘                ▲          ▲                  └─► supply ─► pool table ─► RX descriptor cache
                                      │          └ sent, unused            ▲
                           delivered to software                    limits, feedback loop

One door in: whoever hands a buffer back must *claim* it from software first, and the tracker grants that once. One door
out: what RX takes comes from the free list. So an id is in one place at any time:

======================  ==============================================  ================================================
place                   from                                            to
======================  ==============================================  ================================================
free list               JOIN; a claim granted to a return register or   supply, for a queue or for TAKE
                        a fill; bytes sent; unused
ahead, or in a frame    free list                                       software, when its completion is handed over;
                                                                        free list, when its queue stops
software (*out*)        completion, TAKE                                free list or TX, by a claim; nowhere, by REMOVE
TX                      a claim                                         free list, when its bytes have been read
======================  ==============================================  ================================================

Begin at :mod:`hw.nic.recycle.recycler`, which joins all of it, and :mod:`hw.abi.pools`, which says what software sees.

- Who hands back: ``return_words``; ``joins`` for fills and TX.
- Where buffers are: ``recycle_fifo`` (``tracker``, ``free_list``), ``pool_table``, ``supply``, ``unused``.
- What software asks and is told: ``lifecycle``, ``queue_pools``, ``commands`` (JOIN, REMOVE, TAKE, QUERY), ``overdue``,
  ``misuse``, ``low_water``.
- What bounds them: ``limits`` (``pool_counter``), ``steady_state``.
- Translations that ride along: ``carried`` (``carried_use``, ``carried_table``, ``translation_requests``).
"""
