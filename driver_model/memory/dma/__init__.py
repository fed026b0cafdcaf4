# SPDX-License-Identifier: BSD-2-Clause
"""The DMA API, what is behind it, and the checkers that watch both sides."""
