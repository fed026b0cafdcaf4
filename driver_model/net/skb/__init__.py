# SPDX-License-Identifier: BSD-2-Clause
"""Socket buffers: ``struct sk_buff``, its memory, and what is done to it."""
