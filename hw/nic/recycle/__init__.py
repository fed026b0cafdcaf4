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
"""
