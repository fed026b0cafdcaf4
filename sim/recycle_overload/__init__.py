# SPDX-License-Identifier: BSD-2-Clause
"""A consumer that is too slow for what its pool of recycled buffers receives."""
